package stage

import (
	"context"
	"encoding/json"
	"time"
)

// Step is one stage's news of a tracked event. A later Step of the same stage replaces the earlier one.
type Step struct {
	ID     string          `json:"id"`               // event ID
	Stage  string          `json:"stage"`            // who did it; the publisher's name for the submission itself
	State  string          `json:"state"`            // "done", "retry" (will be tried again) or "dead" (dead letter)
	At     time.Time       `json:"at"`               // Redis' clock
	Next   []string        `json:"next,omitempty"`   // the channels it was forwarded to
	Detail json.RawMessage `json:"detail,omitempty"` // what the output showed of itself, see Progresser
}

// Progress reads what is known of a tracked event, oldest first. [ErrNotFound] if nothing is: never tracked, or over an
// hour ago.
func (b *Broker) Progress(ctx context.Context, id string) ([]Step, error) { panic("not built yet") }

// Watcher follows tracked events live, any number of them over one subscription connection.
type Watcher struct{}

// Watcher makes a watcher; its connection is opened with the first Watch. Close it to stop it.
func (b *Broker) Watcher() *Watcher { panic("not built yet") }

// Watch calls f for each Step of the events: first what is known (after the subscription was confirmed, so that nothing
// falls between), then live, and again what is known after each reconnect. A Step may come more than once. f is called
// from one goroutine at a time. Watch blocks until ctx ends or the watcher is closed, and returns ctx's error then.
func (w *Watcher) Watch(ctx context.Context, ids []string, f func(Step)) error { panic("not built yet") }

// Close ends all watches.
func (w *Watcher) Close() error { panic("not built yet") }
