package inspect

import (
	"cmp"
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/internal/entry"
	"github.com/milepost/milepost/pkg/stage/internal/link"
	"github.com/milepost/milepost/pkg/stage/internal/script"
)

// DeadLetter is an entry set aside, with what is needed to understand and replay it.
type DeadLetter struct {
	Entry   string    `json:"entry"` // its own entry ID in <channel>:dead; of several shards, followed by / and its own
	Channel string    `json:"channel"`
	Group   string    `json:"group"` // the stage that failed
	ID      string    `json:"id"`    // event ID
	Payload []byte    `json:"payload,omitempty"`
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

// DeadLetters reads up to count dead letters of channel, oldest first. It begins after the Entry
// after, or with the first one if that is "".
func (p *Pipeline) DeadLetters(ctx context.Context, channel, after string, count int) ([]DeadLetter, error) {
	links, err := p.b.Shards(ctx)
	if err != nil {
		return nil, err
	}
	all := make([][]DeadLetter, len(links))
	errs := gather(links, func(i int, l *link.Link) error {
		from := "-"
		if after != "" {
			id, shard := unmark(after, len(links))
			if from = "(" + id; i > shard { // of one ID, that of the lower shard is first
				from = id
			}
		}
		found, err := l.Client().XRangeN(ctx, l.Keys.Dead(channel), from, "+", int64(count)).Result()
		all[i] = deadLetters(channel, found, i, len(links))
		return l.Check(ctx, err)
	})
	return merged(all, count, func(a, b DeadLetter) int { return older(a.Entry, b.Entry) }), cmp.Or(errs...)
}

// older compares two entry IDs, which may name shards.
func older(a, b string) int {
	x, _, _ := strings.Cut(a, "/")
	y, _, _ := strings.Cut(b, "/")
	switch {
	case entry.Before(x, y):
		return -1
	case entry.Before(y, x):
		return 1
	}
	return 0
}

// newest reads the newest dead letters of channel, newest first, without their payloads. It leaves
// out a shard that is away, unless all are.
func (p *Pipeline) newest(ctx context.Context, channel string, count int) ([]DeadLetter, error) {
	links, err := p.b.Shards(ctx)
	if err != nil {
		return nil, err
	}
	all := make([][]DeadLetter, len(links))
	err = some(ctx, links, make([]error, len(links)), func(ctx context.Context, i int, l *link.Link) error {
		found, err := l.Client().XRevRangeN(ctx, l.Keys.Dead(channel), "+", "-", int64(count)).Result()
		all[i] = deadLetters(channel, found, i, len(links))
		for j := range all[i] {
			all[i][j].Payload = nil
		}
		return l.Check(ctx, err)
	})
	return merged(all, count, func(a, b DeadLetter) int { return older(b.Entry, a.Entry) }), err
}

// DeadLetter reads one. Error: [stage.ErrNotFound].
func (p *Pipeline) DeadLetter(ctx context.Context, channel, entry string) (DeadLetter, error) {
	links, err := p.b.Shards(ctx)
	if err != nil {
		return DeadLetter{}, err
	}
	id, i := unmark(entry, len(links))
	if i < 0 {
		return DeadLetter{}, stage.ErrNotFound
	}
	l := links[i]
	found, err := l.Client().XRange(ctx, l.Keys.Dead(channel), id, id).Result()
	if err = l.Check(ctx, err); err != nil {
		return DeadLetter{}, err
	}
	if len(found) == 0 {
		return DeadLetter{}, stage.ErrNotFound
	}
	return deadLetters(channel, found, i, len(links))[0], nil
}

// DeadCount is the number of dead letters of channel.
func (p *Pipeline) DeadCount(ctx context.Context, channel string) (int, error) {
	return p.total(ctx, func(_, _ int, l *link.Link) (int, error) {
		n, err := l.Client().XLen(ctx, l.Keys.Dead(channel)).Result()
		return int(n), l.Check(ctx, err)
	})
}

// Replay puts dead letters back into the channel's stream, for the failed group only, and removes
// them, in one script for each shard. It returns how many were put back: not one whose entry was
// lost, or was cut.
func (p *Pipeline) Replay(ctx context.Context, channel string, entries ...string) (int, error) {
	return p.total(ctx, func(i, n int, l *link.Link) (int, error) {
		var args []any
		for _, e := range ofShard(entries, i, n) {
			args = append(args, e)
		}
		if len(args) == 0 {
			return 0, nil
		}
		return l.RunInt(ctx, script.Replay, []string{l.Keys.Stream(channel), l.Keys.Dead(channel)}, args...)
	})
}

// Drop removes dead letters for good and returns how many were there.
func (p *Pipeline) Drop(ctx context.Context, channel string, entries ...string) (int, error) {
	return p.total(ctx, func(i, n int, l *link.Link) (int, error) {
		here := ofShard(entries, i, n)
		if len(here) == 0 {
			return 0, nil
		}
		gone, err := l.Client().XDel(ctx, l.Keys.Dead(channel), here...).Result()
		return int(gone), l.Check(ctx, err)
	})
}

// Restore adds a dead letter that was read before, with a new entry ID, to its event's shard.
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
	links, err := p.b.Shards(ctx)
	if err != nil {
		return err
	}
	l := links[stage.ShardOf(d.ID, len(links))]
	return l.Check(ctx, l.Client().XAdd(ctx, &redis.XAddArgs{Stream: l.Keys.Dead(d.Channel), Values: fields}).Err())
}

// deadLetters are what was found in a shard of n.
func deadLetters(channel string, found []redis.XMessage, shard, n int) []DeadLetter {
	out := make([]DeadLetter, len(found))
	for i, x := range found {
		out[i] = deadLetter(channel, x)
		out[i].Entry = mark(x.ID, shard, n)
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
