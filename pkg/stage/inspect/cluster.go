package inspect

import (
	"context"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/internal/keys"
	"github.com/milepost/milepost/pkg/stage/internal/link"
)

// AllSlots is how many slots a Redis Cluster has.
const AllSlots = keys.AllSlots

// Cluster is what a node of a Redis Cluster says of it.
type Cluster struct {
	Nodes    []string // addresses of the masters and replicas
	Masters  int      // that have slots
	Covered  int      // slots that have a master
	Replicas int      // of the master that has the fewest
}

// AskCluster asks a node of a Redis Cluster, which need not have a pipeline.
func AskCluster(ctx context.Context, node *redis.Client) (Cluster, error) {
	//lint:ignore SA1019 CLUSTER SHARDS is not in Redis 6
	slots, err := node.ClusterSlots(ctx).Result()
	var c Cluster
	var masters []string
	for i, r := range slots {
		c.Covered += r.End - r.Start + 1
		for j, n := range r.Nodes {
			addr := keys.NodeAddress(node.Options().Addr, n.Addr)
			if addr != "" && !slices.Contains(c.Nodes, addr) {
				c.Nodes = append(c.Nodes, addr)
			}
			if j == 0 && !slices.Contains(masters, addr) {
				masters = append(masters, addr)
			}
		}
		if n := len(r.Nodes) - 1; i == 0 || n < c.Replicas {
			c.Replicas = n
		}
	}
	c.Masters = len(masters)
	return c, err
}

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
