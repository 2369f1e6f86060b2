package stage

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/internal/keys"
	"github.com/milepost/milepost/pkg/stage/internal/link"
)

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
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
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

// lane is a stage's work on one shard: what it has read there and not settled yet, and what keeps
// it from working there. The lanes of a stage share its queue and its workers.
type lane struct {
	*Stage
	*shard

	hand   hand
	replay replay
	eras   eras
	out    *gathering[settlement]
	gate   gate
	last   tickReply // guarded by Stage.figures
	joined bool

	writer atomic.Pointer[string] // whom the shard belongs to; nil: not known, or it is not divided
	since  atomic.Int64           // this consumer took the shard from another, ms; 0: it did not
	waits  atomic.Bool            // its writer is not running
	news   chan struct{}          // writer was stored

	poke  chan struct{} // asks for a tick now
	free  chan struct{} // tick saw that nobody adopts
	token atomic.Value  // string: the token of this stage's adoption, "" if it has none
	known atomic.Int64  // consumers of the channel's groups, as last seen
}

// enlist makes a lane for each shard.
func (s *Stage) enlist(shards []*shard) {
	lanes := make([]*lane, len(shards))
	for i, x := range shards {
		l := &lane{Stage: s, shard: x, out: gather(scriptMost, settleAtOnce, (*settlement).size),
			free: make(chan struct{}, 1), poke: make(chan struct{}, 1), news: make(chan struct{}, 1)}
		l.token.Store("")
		l.gate.init()
		l.hand.init(min(s.cfg.Prefetch, max(readMost, s.cfg.Prefetch/len(shards))), handBytes/len(shards))
		l.gate.shut(starting, "", nil)
		lanes[i] = l
	}
	s.lanes.Store(&lanes)
}

// all are the stage's lanes; none before Redis has said how many shards there are.
func (s *Stage) all() []*lane {
	if l := s.lanes.Load(); l != nil {
		return *l
	}
	return nil
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
