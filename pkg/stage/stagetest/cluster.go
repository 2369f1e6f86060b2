package stagetest

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Sharded is a Redis Cluster: masters with equal ranges of slots, then a replica of each if asked
// for. A master that does not answer for 3 s is replaced.
type Sharded struct {
	Servers []*Server
	t       testing.TB
}

// Slots are all that a cluster has.
const Slots = 16384

// ShardedOf starts a durable cluster with so many masters, and waits until it works. args are
// further words for each redis-server.
func ShardedOf(t testing.TB, masters int, replicas bool, args ...string) *Sharded {
	t.Helper()
	c := &Sharded{t: t}
	n := masters
	if replicas {
		n *= 2
	}
	for range n {
		c.Servers = append(c.Servers, c.node(args))
	}
	for i, s := range c.Servers {
		if i < masters {
			c.do(s, "cluster", "addslotsrange", i*Slots/masters, (i+1)*Slots/masters-1)
		}
		c.do(s, "cluster", "set-config-epoch", i+1)
		c.Meet(s)
	}
	c.eventually("all nodes know each other", func() bool {
		return !slices.ContainsFunc(c.Servers, func(s *Server) bool {
			text, err := c.try(s, "cluster", "nodes")
			return err != nil || strings.Count(text, " connected") != n
		})
	})
	for i, s := range c.Servers[masters:] {
		c.do(s, "cluster", "replicate", c.id(c.Servers[i]))
	}
	c.Settled()
	return c
}

// node starts a server that is in no cluster yet.
func (c *Sharded) node(args []string) *Server {
	c.t.Helper()
	words := slices.Concat(Durable, []string{"--cluster-enabled", "yes", "--cluster-node-timeout", "3000", "--cluster-require-full-coverage", "no",
		"--repl-diskless-sync-delay", "0", "--cluster-config-file", filepath.Join(c.t.TempDir(), "nodes.conf")}, args)
	return Real(c.t, words...)
}

// Add adds a master without slots.
func (c *Sharded) Add(args ...string) *Server {
	c.t.Helper()
	s := c.node(args)
	c.Servers = append(c.Servers, s)
	c.Meet(s)
	c.Settled()
	return s
}

// Remove gives a master's slots to another one, has all others forget it, and kills it.
func (c *Sharded) Remove(s, to *Server) {
	c.t.Helper()
	for line := range strings.Lines(c.do(s, "cluster", "nodes")) {
		f := strings.Fields(line)
		for slot := range Slots {
			if len(f) > 8 && strings.Contains(f[2], "myself") && has(f[8:], slot) {
				c.Move(to, slot)
			}
		}
	}
	id := c.id(s)
	c.Servers = slices.DeleteFunc(c.Servers, func(x *Server) bool { return x == s })
	for _, x := range c.Servers {
		c.do(x, "cluster", "forget", id)
	}
	s.Kill()
}

// Reshard has redis-cli move n slots, of all masters, to one.
func (c *Sharded) Reshard(to *Server, n int) {
	c.t.Helper()
	out, err := exec.Command("redis-cli", "--cluster", "reshard", to.Addr, "--cluster-from", "all", "--cluster-to", c.id(to),
		"--cluster-slots", strconv.Itoa(n), "--cluster-yes").CombinedOutput()
	if err != nil {
		c.t.Fatalf("reshard: %v: %s", err, out[max(0, len(out)-2000):])
	}
}

// Meet makes a server known to the first one.
func (c *Sharded) Meet(s *Server) {
	c.t.Helper()
	if s != c.Servers[0] {
		host, port, _ := strings.Cut(c.Servers[0].Addr, ":")
		c.do(s, "cluster", "meet", host, port)
	}
}

// Settled waits until all nodes that run agree that every slot is served.
func (c *Sharded) Settled() {
	c.t.Helper()
	c.eventually("all slots are served", func() bool {
		running := slices.DeleteFunc(slices.Clone(c.Servers), (*Server).killed)
		return !slices.ContainsFunc(running, func(s *Server) bool {
			text, err := c.try(s, "cluster", "info")
			links, _ := c.try(s, "cluster", "nodes")
			return err != nil || !strings.Contains(text, "cluster_state:ok") || !strings.Contains(text, "cluster_slots_ok:16384") ||
				strings.Count(links, " connected") < len(running) || strings.Contains(links, "handshake")
		})
	})
}

func (s *Server) killed() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// URL names a node, and the others with addr=, as REDIS_URL does.
func (c *Sharded) URL() string {
	url := "redis://" + c.Servers[0].Addr + "/0"
	for i, s := range c.Servers[1:] {
		url += map[bool]string{true: "?", false: "&"}[i == 0] + "addr=" + s.Addr
	}
	return url
}

// Addrs are the addresses of all but the first node.
func (c *Sharded) Addrs() (all []string) {
	for _, s := range c.Servers[1:] {
		all = append(all, s.Addr)
	}
	return all
}

// Client is one for the whole cluster, closed when the test ends. It waits long for an answer: a
// second try would publish twice.
func (c *Sharded) Client() *redis.ClusterClient {
	x := redis.NewClusterClient(&redis.ClusterOptions{Addrs: append(c.Addrs(), c.Servers[0].Addr), ReadTimeout: patience})
	c.t.Cleanup(func() { _ = x.Close() })
	return x
}

// Master returns the running server that has the slot, nil if there is none.
func (c *Sharded) Master(slot int) *Server {
	for _, s := range c.Servers {
		text, err := c.try(s, "cluster", "nodes")
		if err != nil {
			continue
		}
		for line := range strings.Lines(text) {
			f := strings.Fields(line)
			if len(f) > 8 && strings.Contains(f[2], "myself,master") && has(f[8:], slot) {
				return s
			}
		}
	}
	return nil
}

func has(ranges []string, slot int) bool {
	return slices.ContainsFunc(ranges, func(r string) bool {
		var from, to int
		if n, _ := fmt.Sscanf(r, "%d-%d", &from, &to); n == 1 {
			to = from
		}
		return !strings.HasPrefix(r, "[") && from <= slot && slot <= to
	})
}

// Begin begins to move a slot: from here on its keys may be on either side.
func (c *Sharded) Begin(slot int, to *Server) {
	c.t.Helper()
	from := c.Master(slot)
	c.do(to, "cluster", "setslot", slot, "importing", c.id(from))
	c.do(from, "cluster", "setslot", slot, "migrating", c.id(to))
}

// MoveKey moves a key of a slot that Begin was called for.
func (c *Sharded) MoveKey(key string, from, to *Server) {
	c.t.Helper()
	host, port, _ := strings.Cut(to.Addr, ":")
	c.do(from, "migrate", host, port, key, 0, patience.Milliseconds())
}

// End moves the rest of a slot's keys, and gives the slot to its new master.
func (c *Sharded) End(slot int, from, to *Server) {
	c.t.Helper()
	host, port, _ := strings.Cut(to.Addr, ":")
	for {
		rdb := from.Client()
		found, err := rdb.ClusterGetKeysInSlot(context.Background(), slot, 100).Result()
		_ = rdb.Close()
		if err != nil {
			c.t.Fatal(err)
		}
		if len(found) == 0 {
			break
		}
		words := []any{"migrate", host, port, "", 0, patience.Milliseconds(), "keys"}
		for _, k := range found {
			words = append(words, k)
		}
		c.do(from, words...)
	}
	c.do(to, "cluster", "setslot", slot, "node", c.id(to))
	if _, err := c.try(from, "cluster", "setslot", slot, "node", c.id(to)); err != nil && !strings.Contains(err.Error(), "only with masters") {
		c.t.Fatalf("end the move of slot %d: %v", slot, err) // without a slot it is a replica by now
	}
}

// Move moves slots to another master, one after another, as redis-cli --cluster reshard does.
func (c *Sharded) Move(to *Server, slots ...int) {
	c.t.Helper()
	for _, slot := range slots {
		if from := c.Master(slot); from != to {
			c.Begin(slot, to)
			c.End(slot, from, to)
		}
	}
}

func (c *Sharded) id(s *Server) string {
	c.t.Helper()
	return c.do(s, "cluster", "myid")
}

func (c *Sharded) do(s *Server, words ...any) string {
	c.t.Helper()
	text, err := c.try(s, words...)
	if err != nil {
		c.t.Fatalf("%v on %s: %v", words, s.Addr, err)
	}
	return text
}

func (c *Sharded) try(s *Server, words ...any) (string, error) {
	rdb := redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: -1})
	defer rdb.Close()
	r, err := rdb.Do(context.Background(), words...).Result()
	return fmt.Sprint(r), err
}

func (c *Sharded) eventually(what string, ok func() bool) {
	c.t.Helper()
	for start := time.Now(); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Since(start) > patience {
			info, _ := c.try(c.Servers[0], "cluster", "nodes")
			c.t.Fatalf("cluster: %s: not within %s\n%s", what, patience, info)
		}
	}
}
