package inspect

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/internal/link"
)

// Tail is what comes into a channel's stream after a moment.
type Tail struct {
	channel string
	shards  []*link.Link
	after   []string // by shard, the last entry that was seen
}

// Tail begins at the end of a channel's stream; in a shard that is away, at its beginning. It fails
// if all shards are away.
func (p *Pipeline) Tail(ctx context.Context, channel string) (*Tail, error) {
	links, err := p.b.Shards(ctx)
	if err != nil {
		return nil, err
	}
	t := &Tail{channel, links, make([]string, len(links))}
	err = some(ctx, links, make([]error, len(links)), func(ctx context.Context, i int, l *link.Link) error {
		last, err := l.Client().XRevRangeN(ctx, l.Keys.Stream(channel), "+", "-", 1).Result()
		if len(last) > 0 {
			t.after[i] = last[0].ID
		}
		return l.Check(ctx, err)
	})
	return t, err
}

// Next waits until there are entries in the shard of an event, for as long as patience, and returns
// their payloads, each once. Without an entry it returns an error.
func (t *Tail) Next(ctx context.Context, event string, patience time.Duration) (payloads []string, err error) {
	i := stage.ShardOf(event, len(t.shards))
	l := t.shards[i]
	got, err := l.Client().XRead(ctx, &redis.XReadArgs{
		Streams: []string{l.Keys.Stream(t.channel), cmp.Or(t.after[i], "0")}, Count: 1000, Block: patience,
	}).Result()
	for _, s := range got {
		for _, e := range s.Messages {
			t.after[i] = e.ID
			text, _ := e.Values["payload"].(string)
			payloads = append(payloads, text)
		}
	}
	if errors.Is(err, redis.Nil) {
		return nil, stage.ErrNotFound
	}
	return payloads, l.Check(ctx, err)
}
