package stage

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
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
	from := "-"
	if after != "" {
		from = "(" + after
	}
	found, err := b.rdb.XRangeN(ctx, deadKey(channel), from, "+", int64(count)).Result()
	if err = b.seen(ctx, err); err != nil {
		return nil, err
	}
	out := make([]DeadLetter, len(found))
	for i, x := range found {
		out[i] = deadLetter(channel, x)
	}
	return out, nil
}

// DeadLetter reads one; [ErrNotFound] if it is not there.
func (b *Broker) DeadLetter(ctx context.Context, channel, entry string) (DeadLetter, error) {
	found, err := b.rdb.XRange(ctx, deadKey(channel), entry, entry).Result()
	if err = b.seen(ctx, err); err != nil {
		return DeadLetter{}, err
	}
	if len(found) == 0 {
		return DeadLetter{}, ErrNotFound
	}
	return deadLetter(channel, found[0]), nil
}

// DeadCount is the number of dead letters of channel.
func (b *Broker) DeadCount(ctx context.Context, channel string) (int, error) {
	n, err := b.rdb.XLen(ctx, deadKey(channel)).Result()
	return int(n), b.seen(ctx, err)
}

// Replay puts the dead letters back into the channel's stream, for the group that failed only, and removes them, in one
// script. It returns how many were still there. One whose entry was lost has nothing to put back, and stays.
func (b *Broker) Replay(ctx context.Context, channel string, entries ...string) (int, error) {
	args := make([]any, len(entries))
	for i, e := range entries {
		args[i] = e
	}
	r, err := b.run(ctx, replayScript, []string{channel, deadKey(channel)}, args...)
	if err != nil {
		return 0, err
	}
	return number(r[0]), nil
}

// Drop removes dead letters for good and returns how many were still there.
func (b *Broker) Drop(ctx context.Context, channel string, entries ...string) (int, error) {
	n, err := b.rdb.XDel(ctx, deadKey(channel), entries...).Result()
	return int(n), b.seen(ctx, err)
}

func deadLetter(channel string, x redis.XMessage) DeadLetter {
	field := func(name string) string { return text(x.Values[name]) }
	d := DeadLetter{
		Entry: x.ID, Channel: channel, Group: field("group"), ID: field("id"), Payload: []byte(field("payload")),
		Error: field("error"), Dead: entryTime(x.ID),
	}
	d.Tries, _ = strconv.Atoi(field("tries"))
	d.Crashes, _ = strconv.Atoi(field("crashes"))
	if ms, err := strconv.ParseInt(field("at"), 10, 64); err == nil {
		d.At = time.UnixMilli(ms)
	}
	return d
}
