package stage

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/internal/keys"
	"github.com/milepost/milepost/pkg/stage/internal/link"
)

// ErrCluster: this Redis Cluster cannot run the pipeline, and waiting does not help.
var ErrCluster = errors.New("the pipeline cannot run on this Redis Cluster")

const (
	loadTimeout = time.Second            // of a question to one node
	loadEvery   = 100 * time.Millisecond // between two questions for the masters
	nodePool    = 1000                   // connections to a node at most: each lane has three of its own
	maxShards   = 256
	tickGather  = 10 * time.Millisecond // the ticks of one master's shards come together within this
)

// cluster knows the masters of a Redis Cluster. go-redis' own client does not serve here: it
// repeats a write whose reply was lost, and sends WAIT to any node. So each shard has an ordinary
// client of its master. When that one is away, the nodes are asked who the masters are.
type cluster struct {
	opt   redis.Options          // of a node's client, without its address
	slots []int                  // by shard; the last one is that of the key pipeline
	at    []atomic.Pointer[node] // the slot's master, as far as is known
	owned []owned                // guarded by mu: all slots that have a master

	channels func() []string // that quiet asks for

	mu     sync.Mutex
	nodes  map[string]*node // by address, all that were ever named
	heard  listeners
	asking bool
	asked  time.Time
}

// owned are slots from first to last, and their master.
type owned struct {
	first, last int
	by          *node
}

// node is a server of the cluster.
type node struct {
	addr          string
	client, ticks *redis.Client // ticks: short calls over connections of their own
	tls           *tls.Config

	mu     sync.Mutex
	conns  map[*member]struct{}
	bundle *bundle // gathers; nil if there is none
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

func newCluster(o redis.Options, seeds []string) *cluster {
	c := &cluster{opt: o, nodes: map[string]*node{}}
	c.opt.PoolSize = max(o.PoolSize, nodePool)
	for _, addr := range append([]string{o.Addr}, seeds...) {
		c.node(addr)
	}
	return c
}

// cover has the masters of these slots known. Nothing else uses c yet.
func (c *cluster) cover(ctx context.Context, slots ...int) error {
	c.slots, c.at = slots, make([]atomic.Pointer[node], len(slots))
	if err := c.load(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// client is one of the master of a shard, or of the key pipeline.
func (c *cluster) client(i int) *redis.Client { return c.at[i].Load().client }

// owner is the master of a slot, or of another one if it is not known.
func (c *cluster) owner(slot int) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.owned {
		if o.first <= slot && slot <= o.last {
			return o.by
		}
	}
	return c.at[0].Load()
}

// node returns the node with this address. mu is held, or c is not shared yet.
func (c *cluster) node(addr string) *node {
	if n := c.nodes[addr]; n != nil {
		return n
	}
	n := &node{addr: addr, conns: map[*member]struct{}{}}
	o := c.opt
	o.Addr, o.Dialer, n.tls = addr, n.dial, anyServer(o.TLSConfig)
	n.client = redis.NewClient(&o)
	o.DialTimeout, o.PoolTimeout = tickTimeout, tickTimeout
	n.ticks = redis.NewClient(&o)
	c.nodes[addr] = n
	return n
}

// dial connects to the node. The connection ends when the node is no longer a master.
func (n *node) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := connect(ctx, network, addr, n.tls)
	if err != nil {
		return nil, err
	}
	m := &member{stop: func() { _ = conn.Close() }} // whoever uses it gets the error
	n.mu.Lock()
	n.conns[m] = struct{}{}
	n.mu.Unlock()
	return closing(conn, sync.OnceFunc(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.conns, m)
	})), nil
}

// cut ends all connections to the node, whatever they wait for.
func (n *node) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for m := range n.conns {
		m.stop()
	}
}

// all are the nodes that were ever named.
func (c *cluster) all() []*node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.nodes))
}

// masters are the nodes that have a shard.
func (c *cluster) masters() []*node {
	var all []*node
	for i := range c.at {
		if n := c.at[i].Load(); n != nil && !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	return all
}

// lost has the nodes asked who the masters are. It does not wait for the answer.
func (c *cluster) lost() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asking {
		return
	}
	c.asking = true
	time.AfterFunc(loadEvery-time.Since(c.asked), func() {
		_ = c.load(context.Background()) // the next call that fails has it asked again
		c.mu.Lock()
		defer c.mu.Unlock()
		c.asking, c.asked = false, time.Now()
	})
}

// load asks the nodes in random order, until one answers, who the masters are.
func (c *cluster) load(ctx context.Context) error {
	nodes := c.all()
	rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	var last error
	for _, n := range nodes {
		ask, cancel := context.WithTimeout(ctx, loadTimeout)
		//lint:ignore SA1019 CLUSTER SHARDS is not in Redis 6
		slots, err := n.ticks.ClusterSlots(ask).Result()
		cancel()
		switch {
		case err != nil:
			last = err
		case len(slots) == 0:
			last = fmt.Errorf("CLUSTERDOWN node %s knows no master of any slot", n.addr)
		default:
			c.take(slots, n)
			return nil
		}
	}
	return last
}

// take takes in what a node said. A shard whose slot has no master keeps its last one.
func (c *cluster) take(slots []redis.ClusterSlot, from *node) {
	before := c.masters()
	c.mu.Lock()
	c.owned = c.owned[:0]
	for _, r := range slots {
		for i, x := range r.Nodes {
			addr := from.named(x.Addr)
			if addr == "" {
				continue
			}
			n := c.node(addr)
			if i > 0 { // a replica, to be asked another time
				continue
			}
			c.owned = append(c.owned, owned{r.Start, r.End, n})
			for s, slot := range c.slots {
				if r.Start <= slot && slot <= r.End {
					c.at[s].Store(n)
				}
			}
		}
	}
	for s := range c.at {
		c.at[s].CompareAndSwap(nil, from)
	}
	c.mu.Unlock()
	now := c.masters()
	for _, n := range before {
		if !slices.Contains(now, n) {
			n.cut()
		}
	}
}

// named is the address that the node gave for another one or, without a host, for itself. It is ""
// if the node does not know it.
func (n *node) named(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "?" || port == "0" {
		return ""
	}
	if host == "" {
		host, _, _ = net.SplitHostPort(n.addr)
	}
	return net.JoinHostPort(host, port)
}

func (c *cluster) close() (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		err = errors.Join(err, n.client.Close(), n.ticks.Close())
	}
	return err
}

// bundle gathers the scripts that go to a node in one call.
type bundle struct {
	pipe redis.Pipeliner
	sent chan struct{}
}

// together sends a shard's script in one call with those of the other shards on its master. A
// caller's context does not end the call, tickTimeout does.
func (c *cluster) together(shard int) link.Via {
	return func(_ context.Context, send func(redis.Scripter) *redis.Cmd) *redis.Cmd {
		n := c.at[shard].Load()
		n.mu.Lock()
		b := n.bundle
		if b == nil {
			b = &bundle{pipe: n.ticks.Pipeline(), sent: make(chan struct{})}
			n.bundle = b
			time.AfterFunc(tickGather, func() {
				n.mu.Lock()
				n.bundle = nil
				n.mu.Unlock()
				ctx, cancel := context.WithTimeout(context.Background(), tickTimeout)
				defer cancel()
				_, _ = b.pipe.Exec(ctx) // each command has its error
				close(b.sent)
			})
		}
		cmd := send(b.pipe)
		n.mu.Unlock()
		<-b.sent
		return cmd
	}
}
