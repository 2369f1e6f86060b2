package inspect

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/internal/entry"
	"github.com/milepost/milepost/pkg/stage/internal/script"
)

// DeadLetter is an entry set aside, with what is needed to understand and replay it.
type DeadLetter struct {
	Entry   string    `json:"entry"` // its own entry ID, in <channel>:dead
	Channel string    `json:"channel"`
	Group   string    `json:"group"` // the stage that failed
	ID      string    `json:"id"`    // event ID
	Payload []byte    `json:"payload"`
	Size    int       `json:"size,omitempty"` // of the payload, if only its begin is kept; then it cannot be replayed
	Error   string    `json:"error"`
	Tries   int       `json:"tries"`
	Crashes int       `json:"crashes"`
	At      time.Time `json:"at"`   // submission
	Dead    time.Time `json:"dead"` // when it was set aside

	Trace   string `json:"traceparent,omitempty"`
	Track   bool   `json:"track,omitempty"`   // somebody may watch the event's progress
	Adopted bool   `json:"adopted,omitempty"` // the event came from a bare PUBLISH
}

// DeadLetters reads up to count dead letters of channel, oldest first. It begins after the entry ID
// after, or with the first one if that is "".
func (p *Pipeline) DeadLetters(ctx context.Context, channel, after string, count int) ([]DeadLetter, error) {
	from := "-"
	if after != "" {
		from = "(" + after
	}
	found, err := p.link.Client().XRangeN(ctx, p.link.Keys.Dead(channel), from, "+", int64(count)).Result()
	return deadLetters(channel, found), p.link.Check(ctx, err)
}

// newest reads the newest dead letters of channel, newest first, without their payloads.
func (p *Pipeline) newest(ctx context.Context, channel string, count int) ([]DeadLetter, error) {
	found, err := p.link.Client().XRevRangeN(ctx, p.link.Keys.Dead(channel), "+", "-", int64(count)).Result()
	letters := deadLetters(channel, found)
	for i := range letters {
		letters[i].Payload = nil
	}
	return letters, p.link.Check(ctx, err)
}

// DeadLetter reads one. Error: [stage.ErrNotFound].
func (p *Pipeline) DeadLetter(ctx context.Context, channel, entry string) (DeadLetter, error) {
	found, err := p.link.Client().XRange(ctx, p.link.Keys.Dead(channel), entry, entry).Result()
	if err = p.link.Check(ctx, err); err != nil {
		return DeadLetter{}, err
	}
	if len(found) == 0 {
		return DeadLetter{}, stage.ErrNotFound
	}
	return deadLetter(channel, found[0]), nil
}

func (p *Pipeline) DeadCount(ctx context.Context, channel string) (int, error) {
	n, err := p.link.Client().XLen(ctx, p.link.Keys.Dead(channel)).Result()
	return int(n), p.link.Check(ctx, err)
}

// Replay puts dead letters back into the channel's stream, for the failed group only, and removes
// them, in one script. It returns how many were put back: not one whose entry was lost, or was cut.
func (p *Pipeline) Replay(ctx context.Context, channel string, entries ...string) (int, error) {
	args := make([]any, len(entries))
	for i, e := range entries {
		args[i] = e
	}
	return p.link.RunInt(ctx, script.Replay, []string{p.link.Keys.Stream(channel), p.link.Keys.Dead(channel)}, args...)
}

// Drop removes dead letters for good and returns how many were there.
func (p *Pipeline) Drop(ctx context.Context, channel string, entries ...string) (int, error) {
	n, err := p.link.Client().XDel(ctx, p.link.Keys.Dead(channel), entries...).Result()
	return int(n), p.link.Check(ctx, err)
}

// Restore adds a dead letter that was read before, with a new entry ID.
func (p *Pipeline) Restore(ctx context.Context, d DeadLetter) error {
	fields := []any{
		"id", d.ID, "at", d.At.UnixMilli(), "payload", d.Payload,
		"group", d.Group, "error", d.Error, "tries", d.Tries, "crashes", d.Crashes,
	}
	if d.Size > 0 {
		fields = append(fields, "size", d.Size)
	}
	if d.Trace != "" {
		fields = append(fields, "traceparent", d.Trace)
	}
	if d.Track {
		fields = append(fields, "track", 1)
	}
	if d.Adopted {
		fields = append(fields, "adopted", 1)
	}
	return p.link.Check(ctx, p.link.Client().XAdd(ctx, &redis.XAddArgs{Stream: p.link.Keys.Dead(d.Channel), Values: fields}).Err())
}

func deadLetters(channel string, found []redis.XMessage) []DeadLetter {
	out := make([]DeadLetter, len(found))
	for i, x := range found {
		out[i] = deadLetter(channel, x)
	}
	return out
}

func deadLetter(channel string, x redis.XMessage) DeadLetter {
	field := func(name string) string { return text(x.Values[name]) }
	d := DeadLetter{
		Entry: x.ID, Channel: channel, Group: field("group"), ID: field("id"), Payload: []byte(field("payload")),
		Error: field("error"), Dead: entry.Time(x.ID),
		Trace: field("traceparent"), Track: field("track") == "1", Adopted: field("adopted") == "1",
	}
	d.Size, _ = strconv.Atoi(field("size"))
	d.Tries, _ = strconv.Atoi(field("tries"))
	d.Crashes, _ = strconv.Atoi(field("crashes"))
	if ms, err := strconv.ParseInt(field("at"), 10, 64); err == nil {
		d.At = time.UnixMilli(ms)
	}
	return d
}

// text is a field of an entry as go-redis returns it.
func text(v any) string {
	s, _ := v.(string)
	return s
}
