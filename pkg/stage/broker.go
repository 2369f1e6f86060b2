package stage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.opentelemetry.io/otel/trace"

	"github.com/milepost/milepost/pkg/stage/internal/keys"
	"github.com/milepost/milepost/pkg/stage/internal/link"
)

// Broker is one pipeline's Redis, shared by its stages, publishers and tools. Its methods are safe
// for concurrent use.
type Broker struct {
	opt     Options
	log     *slog.Logger
	redis   *redis.Client // of the one Redis; of a cluster, asked once what it is
	link    *link.Link    // in a cluster, to the master that has the key pipeline
	metrics *metrics
	tracer  trace.Tracer // nil: none
	crew    crew
	rights  rights

	parts    shards
	cluster  atomic.Pointer[cluster] // nil: Redis is none, or was not asked yet
	identity identity
	outs     outs
}

// callTimeout bounds one round trip. A blocking read waits readBlock of it.
const callTimeout = link.CallTimeout

// poolSize is how many connections to a single Redis there may be at least. Each stage has three of
// its own; go-redis' ten for each core are too few for the stages of standalone on one core.
const poolSize = 64

// Open makes a broker. It does not connect, so it does not fail while Redis is away; an error names
// the option that cannot work. The caller closes it.
func Open(o Options) (*Broker, error) {
	if o.Redis == nil {
		return nil, errors.New("stage: Options.Redis is missing")
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	def(&o.Timeout, callTimeout)
	def(&o.Shards, 16)
	def(&o.Lease, 3*time.Second)
	def(&o.MaxBacklog, 1_000_000)
	def(&o.KeepEntries, 10_000)
	def(&o.MaxDead, 100_000)
	def(&o.WaitTimeout, 500*time.Millisecond)
	if o.WaitReplicas < 0 || o.WaitTimeout < time.Millisecond || o.WaitTimeout >= callTimeout {
		return nil, fmt.Errorf("stage: WaitReplicas %d and WaitTimeout %s: from 0, and from 1ms to less than %s", o.WaitReplicas, o.WaitTimeout, callTimeout)
	}
	if o.Lease < 500*time.Millisecond {
		return nil, fmt.Errorf("stage: a lease of %s is too short to renew; at least 500ms", o.Lease)
	}
	if err := CheckPrefix(o.Prefix, o.Redis.DB); err != nil {
		return nil, fmt.Errorf("stage: %w", err)
	}
	if o.Shards < -1 || o.Shards > maxShards {
		return nil, fmt.Errorf("stage: Shards %d is not in [1, %d]", o.Shards, maxShards)
	}
	if o.MaxBacklog < 1 || o.KeepEntries < 1 || o.MaxDead < 1 {
		return nil, fmt.Errorf("stage: MaxBacklog %d, KeepEntries %d and MaxDead %d must be positive", o.MaxBacklog, o.KeepEntries, o.MaxDead)
	}
	c := *o.Redis
	c.MaxRetries = -1 // the command of a lost reply may have run; the callers repeat what is safe to repeat
	c.DialerRetries = 1
	c.Protocol = 2
	c.ContextTimeoutEnabled = true
	c.DialTimeout, c.ReadTimeout, c.WriteTimeout, c.PoolTimeout = o.Timeout, o.Timeout, o.Timeout, o.Timeout
	if c.PoolSize == 0 {
		c.PoolSize = max(poolSize, 10*runtime.GOMAXPROCS(0))
	}
	c.DisableIdentity = true
	c.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	b := &Broker{opt: o, redis: redis.NewClient(&c), log: o.Log, metrics: newMetrics(), tracer: newTracer(o.Tracer)}
	b.rights.last = map[string]verdict{}
	b.link = &link.Link{Client: b.home, Keys: keys.Of(o.Prefix), Allowed: b.allowed, MaxDead: o.MaxDead, Timeout: o.Timeout, Lost: b.lost}
	return b, nil
}

func (b *Broker) home() *redis.Client {
	if c := b.cluster.Load(); c != nil {
		return c.client(len(c.at) - 1)
	}
	return b.redis
}

// lost has the masters of a cluster looked for again.
func (b *Broker) lost() {
	if c := b.cluster.Load(); c != nil {
		c.lost()
	}
}

// CheckPrefix says why a pipeline cannot have this prefix in this database of its Redis.
func CheckPrefix(prefix string, database int) error {
	switch {
	case len(prefix) > 64 || strings.ContainsFunc(prefix, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("{}*?[]\\\"'", r) }):
		return fmt.Errorf("key prefix %q: at most 64 printable ASCII characters, without spaces, quotes, braces or any of *?[]\\", prefix)
	case prefix == "" && database != 0:
		return fmt.Errorf("database %d of Redis needs a key prefix (KEY_PREFIX): Pub/Sub knows no databases, so another pipeline on this Redis would get the same messages; or use database 0", database)
	}
	return nil
}

// Link is for the packages below this one, which share the broker's connection. In a cluster it
// reaches only the key pipeline; see Shards.
func (b *Broker) Link() *link.Link { return b.link }

// Pool returns the figures of the connection pool, and its largest size. In a cluster they are the
// sums over the nodes; the size is that of the masters' pools.
func (b *Broker) Pool() (*redis.PoolStats, int) {
	sum := *b.redis.PoolStats()
	c := b.cluster.Load()
	if c == nil {
		return &sum, b.redis.Options().PoolSize
	}
	for _, n := range c.all() {
		for _, client := range []*redis.Client{n.client, n.ticks} {
			s := client.PoolStats()
			sum.Hits += s.Hits
			sum.Misses += s.Misses
			sum.Timeouts += s.Timeouts
			sum.WaitCount += s.WaitCount
			sum.WaitDurationNs += s.WaitDurationNs
			sum.TotalConns += s.TotalConns
			sum.IdleConns += s.IdleConns
			sum.StaleConns += s.StaleConns
		}
	}
	return &sum, len(c.masters()) * c.opt.PoolSize
}

// Close closes the clients. Stages and publishers must have stopped.
func (b *Broker) Close() error {
	if c := b.cluster.Load(); c != nil {
		return errors.Join(c.close(), b.redis.Close())
	}
	return b.redis.Close()
}

// Ping is nil if Redis takes writes and its user may do what the stages and publishers of b need,
// else an error wrapping [ErrUnavailable], such as a [RightsError], or [ErrCluster]. In a cluster
// one shard suffices.
func (b *Broker) Ping(ctx context.Context) error {
	ctx, cancel := link.Within(ctx, callTimeout)
	defer cancel()
	shards, err := b.shards(ctx)
	if err != nil {
		return err
	}
	answers := make(chan error, len(shards))
	for _, s := range shards {
		go func() { answers <- b.ping(ctx, s) }()
	}
	var errs []error
	for range shards {
		err := <-answers
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errs[0]
}

func (b *Broker) ping(ctx context.Context, s *shard) error {
	if err := b.allowed(ctx, s.link); err != nil {
		return err
	}
	return b.enough(ctx, s)
}

// enough is an error if fewer replicas follow than must have each submission.
func (b *Broker) enough(ctx context.Context, s *shard) error {
	if b.opt.WaitReplicas == 0 {
		return nil
	}
	info, err := s.link.Client().Info(ctx, "replication").Result()
	if n := strings.Count(info, "state=online"); err == nil && n < b.opt.WaitReplicas {
		return fmt.Errorf("%w: replicas that follow the master: %d; WAIT_REPLICAS: %d; until then each submission is answered 503", ErrUnavailable, n, b.opt.WaitReplicas)
	}
	return nil
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
