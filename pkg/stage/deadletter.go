package stage

import (
	"context"
	"time"
)

// DeadLetter is an entry set aside, with what is needed to understand and replay it.
type DeadLetter struct {
	Entry   string    `json:"entry"` // its own entry ID, in <channel>:dead
	Channel string    `json:"channel"`
	Group   string    `json:"group"` // the stage that failed
	ID      string    `json:"id"`    // event ID
	Payload []byte    `json:"payload"`
	Error   string    `json:"error"`
	Tries   int       `json:"tries"`
	Crashes int       `json:"crashes"`
	At      time.Time `json:"at"`   // submission
	Dead    time.Time `json:"dead"` // when it was set aside
}

// DeadLetters reads up to count dead letters of channel, oldest first, after the entry ID after ("" for the start).
func (b *Broker) DeadLetters(ctx context.Context, channel, after string, count int) ([]DeadLetter, error) {
	panic("not built yet")
}

// DeadLetter reads one; [ErrNotFound] if it is not there.
func (b *Broker) DeadLetter(ctx context.Context, channel, entry string) (DeadLetter, error) { panic("not built yet") }

// Replay puts the dead letters back into the channel's stream, for the group that failed only, and removes them, in one
// script. It returns how many were still there.
func (b *Broker) Replay(ctx context.Context, channel string, entries ...string) (int, error) { panic("not built yet") }

// Drop removes dead letters for good and returns how many were still there.
func (b *Broker) Drop(ctx context.Context, channel string, entries ...string) (int, error) { panic("not built yet") }
