package stage

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
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

const (
	loadTimeout = time.Second            // of a question to one node
	loadEvery   = 100 * time.Millisecond // between two questions for the masters
	nodePool    = 1000                   // connections to a node at most: each lane has three of its own
	tickGather  = 10 * time.Millisecond  // the ticks of one master's shards come together within this
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
	listen listeners
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
			addr := keys.NodeAddress(from.addr, x.Addr)
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

// view asks a node which nodes may publish to its subscribers: all that it knows, but for those
// that the cluster gave up. A node that is cut off from most masters is an error.
func (c *cluster) view(ctx context.Context, at *node) ([]*node, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	pipe := at.ticks.Pipeline()
	slots, text := pipe.ClusterSlots(ctx), pipe.ClusterNodes(ctx)
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	addrs := map[string]string{} // as clients shall call them
	for _, r := range slots.Val() {
		for _, n := range r.Nodes {
			addrs[n.ID] = keys.NodeAddress(at.addr, n.Addr)
		}
	}
	var nodes []*node
	masters, lost := 0, 0
	for line := range strings.Lines(text.Val()) {
		f := strings.Fields(line) // ID, address, flags, …; from the ninth on, a master's slots
		if len(f) < 8 {
			continue
		}
		flags := strings.Split(f[2], ",")
		failed := slices.Contains(flags, "fail")
		if len(f) > 8 {
			masters++
			if failed || slices.Contains(flags, "fail?") {
				lost++
			}
		}
		addr := addrs[f[0]]
		if addr == "" {
			addr, _, _ = strings.Cut(f[1], "@")
			addr = keys.NodeAddress(at.addr, addr)
		}
		if failed || addr == "" || slices.Contains(flags, "handshake") {
			continue
		}
		c.mu.Lock()
		nodes = append(nodes, c.node(addr))
		c.mu.Unlock()
	}
	if 2*lost >= masters {
		return nil, fmt.Errorf("node %s reaches %d of %d masters", at.addr, masters-lost, masters)
	}
	slices.SortFunc(nodes, func(x, y *node) int { return strings.Compare(x.addr, y.addr) })
	return nodes, nil
}
