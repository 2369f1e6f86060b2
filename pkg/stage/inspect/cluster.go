package inspect

import (
	"context"

	"github.com/milepost/milepost/pkg/stage/internal/link"
)

// Stream is a stream of a shard with its size.
type Stream struct {
	Key            string
	Shard          int
	Bytes, Entries int64
}

// Largest returns the stream with the most bytes among those of the channels and their dead
// letters, and the number of shards. Shards that are away are left out; it is an error if all are.
func (p *Pipeline) Largest(ctx context.Context, channels ...string) (most Stream, shards int, err error) {
	links, err := p.b.Shards(ctx)
	if err != nil {
		return most, 0, err
	}
	all := make([]Stream, len(links))
	err = some(ctx, links, make([]error, len(links)), func(ctx context.Context, i int, l *link.Link) error {
		for _, c := range channels {
			for _, key := range []string{l.Keys.Stream(c), l.Keys.Dead(c)} {
				bytes, err := l.Client().MemoryUsage(ctx, key).Result()
				if err = l.Check(ctx, err); err != nil {
					return err
				}
				if bytes <= all[i].Bytes {
					continue
				}
				entries, err := l.Client().XLen(ctx, key).Result()
				if err = l.Check(ctx, err); err != nil {
					return err
				}
				all[i] = Stream{key, i, bytes, entries}
			}
		}
		return nil
	})
	for _, s := range all {
		if s.Bytes > most.Bytes {
			most = s
		}
	}
	return most, len(links), err
}
