package stage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/internal/keys"
	"github.com/milepost/milepost/pkg/stage/internal/link"
)

// maxShards is the most shards of a pipeline.
const maxShards = 256

// shard is a part of a pipeline whose keys are all on one master. An event stays in its shard from
// the edge to the log. A single Redis, also behind Sentinel, is one shard; cluster.go has the
// others.
type shard struct {
	index   int
	keys    keys.Names
	link    *link.Link
	block   time.Duration // how long an idle read waits
	cluster *cluster      // nil: a single Redis

	noReplicaUntil atomic.Int64 // Unix ms; until then a single Redis has no replica

	maxBacklog, keepEntries, maxDead int // its share of those of Options
}

// shards are those of the pipeline, once Redis has said whether it is a cluster.
type shards struct {
	mu    sync.Mutex
	known atomic.Pointer[[]*shard]
}

// shards asks Redis, until it has answered once, whether it is a cluster, and returns the
// pipeline's shards. Errors: [ErrUnavailable], [ErrCluster].
func (b *Broker) shards(ctx context.Context) ([]*shard, error) {
	if s := b.parts.known.Load(); s != nil {
		return *s, nil
	}
	b.parts.mu.Lock()
	defer b.parts.mu.Unlock()
	if s := b.parts.known.Load(); s != nil {
		return *s, nil
	}
	ctx, cancel := link.Within(ctx, callTimeout)
	defer cancel()
	found, err := b.find(ctx)
	if err != nil {
		return nil, err
	}
	b.parts.known.Store(&found)
	return found, nil
}

// all are the shards that are known; the pipeline as one before Redis was asked.
func (b *Broker) all() []*shard {
	if s := b.parts.known.Load(); s != nil {
		return *s
	}
	return []*shard{b.whole()}
}

// Shards returns a link for each shard of the pipeline, in order, for the packages below this one.
// Its Keys name everything that the shard has. A single Redis has one. Errors: [ErrUnavailable],
// [ErrCluster].
func (b *Broker) Shards(ctx context.Context) ([]*link.Link, error) {
	shards, err := b.shards(ctx)
	links := make([]*link.Link, len(shards))
	for i, s := range shards {
		links[i] = s.link
	}
	return links, err
}

// anyNode is a client of one of the masters, which each hear all that is published.
func (b *Broker) anyNode() *redis.Client {
	s := b.all()
	return s[rand.IntN(len(s))].link.Client()
}

// whole is the pipeline as one shard.
func (b *Broker) whole() *shard {
	return &shard{keys: b.link.Keys, link: b.link, block: readBlock,
		maxBacklog: b.opt.MaxBacklog, keepEntries: b.opt.KeepEntries, maxDead: b.opt.MaxDead}
}

// String names the shard in messages: "" if it is the only one.
func (s *shard) String() string {
	if s.keys.Base == s.keys.Prefix {
		return ""
	}
	return fmt.Sprintf("shard %d", s.index)
}

// ShardOf is the shard, of n, of an event with this ID: the last two bytes of a UUID say it. It is
// also that of any other name.
func ShardOf(id string, n int) int {
	if u, err := uuid.Parse(id); err == nil {
		return int(binary.BigEndian.Uint16(u[14:])) % n
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return int(h.Sum32() % uint32(n))
}

// idFor changes the last two bytes of an event ID, so that its shard, of n, is i.
func idFor(id string, i, n int) string {
	u, err := uuid.Parse(id)
	if err != nil || n == 1 {
		return id
	}
	last := int(binary.BigEndian.Uint16(u[14:]))
	last += i - last%n
	if last > math.MaxUint16 {
		last -= n
	}
	binary.BigEndian.PutUint16(u[14:], uint16(last))
	return u.String()
}

// find asks Redis whether it is a cluster, and returns the shards. An embedded Redis does not know
// the question.
func (b *Broker) find(ctx context.Context) ([]*shard, error) {
	info, err := b.link.Client().Info(ctx, "cluster").Result()
	if err != nil && link.Away(err) && len(b.opt.Nodes) > 0 {
		c := newCluster(*b.redis.Options(), b.opt.Nodes)
		defer c.close()
		for _, n := range c.nodes {
			if info, err = n.ticks.Info(ctx, "cluster").Result(); err == nil {
				break
			}
		}
	}
	switch {
	case err == nil && strings.Contains(info, "cluster_enabled:1"):
		return b.findShards(ctx)
	case err == nil && info == "": // no Redis answers so
		err = b.allowed(ctx, b.link)
	case err != nil && strings.Contains(err.Error(), "not allowed in cluster mode"):
		return nil, fmt.Errorf("%w: a cluster has database 0 only", ErrCluster)
	case link.Denied(err):
		if err = b.allowed(ctx, b.link); err != nil {
			return nil, err
		}
	case !link.Away(err):
		err = nil
	case errors.Is(err, io.EOF) && b.link.Client().Ping(ctx).Err() == nil: // Twemproxy ends the connection
		err = notRedis(errors.New("it closes the connection at INFO"))
	}
	if err := b.link.Check(ctx, err); err != nil {
		return nil, err
	}
	return []*shard{b.whole()}, nil
}

// findShards makes the shards of a cluster. Their number must be the one with which the pipeline
// first started.
func (b *Broker) findShards(ctx context.Context) ([]*shard, error) {
	c := newCluster(*b.redis.Options(), b.opt.Nodes)
	c.channels = b.outputs
	home := keys.Slot(b.link.Keys.Pipeline())
	err := c.cover(ctx, home)
	n := 0
	if err != nil && strings.Contains(err.Error(), "NOPERM") {
		err = b.lacking(b.link, on("", "", "cluster slots", "cluster nodes"), "", "")
	}
	if err == nil {
		n, err = b.countShards(ctx, c.client(0))
		if err != nil && strings.Contains(err.Error(), "NOPERM") { // a script says all that is missing, with the names of any shard
			k := keys.Shards(b.opt.Prefix, 1)[0]
			err = b.allowed(ctx, &link.Link{Client: func() *redis.Client { return c.owner(keys.Slot(k.Base)).client }, Keys: k})
		}
	}
	if err == nil {
		err = c.cover(ctx, append(keys.Slots(n), home)...)
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	b.cluster.Store(c)
	shards := make([]*shard, n)
	for i, k := range keys.Shards(b.opt.Prefix, n) {
		s := &shard{index: i, keys: k, block: readBlockCluster, cluster: c,
			maxBacklog: max(1, b.opt.MaxBacklog/n), keepEntries: max(1, b.opt.KeepEntries/n), maxDead: max(1, b.opt.MaxDead/n)}
		s.link = &link.Link{Client: func() *redis.Client { return c.client(i) }, Keys: s.keys, Allowed: b.allowed, MaxDead: s.maxDead,
			Timeout: b.opt.Timeout, Lost: c.lost, Name: s.String()}
		shards[i] = s
	}
	if full, err := c.client(0).ConfigGet(ctx, "cluster-require-full-coverage").Result(); err == nil && full["cluster-require-full-coverage"] == "yes" {
		b.log.Warn("one master that is away stops all shards; to change that, set cluster-require-full-coverage to no on each node")
	}
	b.log.Info("redis is a cluster", "shards", n, "masters", len(c.masters()))
	return shards, nil
}

// countShards returns the pipeline's number of shards. The first start decides it.
func (b *Broker) countShards(ctx context.Context, home *redis.Client) (int, error) {
	key, want := b.link.Keys.Pipeline(), b.opt.Shards
	if want > 0 {
		if err := b.link.Check(ctx, home.HSetNX(ctx, key, "shards", want).Err()); err != nil {
			return 0, err
		}
	}
	n, err := home.HGet(ctx, key, "shards").Int()
	switch {
	case errors.Is(err, redis.Nil):
		return 0, fmt.Errorf("%w: none has started here yet", ErrCluster)
	case err != nil:
		return 0, b.link.Check(ctx, err)
	case n < 1 || n > maxShards:
		return 0, fmt.Errorf("%w: the field shards of the key %s is %d", ErrCluster, key, n)
	case want > 0 && n != want:
		return 0, fmt.Errorf("%w: it has %d shards since it first started, but SHARDS is %d; set SHARDS=%d, or let the pipeline run empty and delete the key %s", ErrCluster, n, want, n, key)
	}
	return n, nil
}
