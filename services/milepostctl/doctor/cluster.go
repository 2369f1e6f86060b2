package doctor

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/event"
)

const allSlots = 16384

// at is how to connect to one node.
func (x *examination) at(addr string) *redis.Options {
	o := *x.Redis
	o.Addr, o.Dialer = addr, nil
	if o.TLSConfig != nil { // the certificate is of this node
		o.TLSConfig = o.TLSConfig.Clone()
		o.TLSConfig.ServerName, _, _ = net.SplitHostPort(addr)
	}
	return &o
}

// cluster checks the slots of a Redis Cluster and the settings of its nodes. s is one of them.
func (x *examination) cluster(ctx context.Context, s *server) {
	const means = "A shard whose slot has no master stops, and its events wait."
	//lint:ignore SA1019 CLUSTER SHARDS is not in Redis 6
	slots, err := s.rdb.ClusterSlots(ctx).Result()
	if err != nil {
		x.add("cluster slots", Unknown, err.Error(), means, "Allow this user to read them: ACL SETUSER … +cluster|slots.")
		return
	}
	covered, replicas, masters := 0, -1, []string{}
	var addrs []string
	for _, r := range slots {
		covered += r.End - r.Start + 1
		for i, n := range r.Nodes {
			addr := n.Addr
			if host, port, err := net.SplitHostPort(addr); err == nil && host == "" { // the node does not know its own
				host, _, _ = net.SplitHostPort(s.rdb.Options().Addr)
				addr = net.JoinHostPort(host, port)
			}
			if i == 0 && !slices.Contains(masters, addr) {
				masters = append(masters, addr)
			}
			if !slices.Contains(addrs, addr) {
				addrs = append(addrs, addr)
			}
		}
		if n := len(r.Nodes) - 1; replicas < 0 || n < replicas {
			replicas = n
		}
	}
	found := fmt.Sprintf("%d of %d covered by %d masters", covered, allSlots, len(masters))
	if covered == allSlots {
		x.add("cluster slots", OK, found, means, "")
	} else {
		x.add("cluster slots", Failed, found, means, "`redis-cli --cluster fix` gives the others to a master. Bring a lost one back first.")
	}
	x.copies(max(0, replicas))
	x.clusterNodes(ctx, addrs)
}

// clusterNodes checks the settings of all nodes, and the memory of the fullest one.
func (x *examination) clusterNodes(ctx context.Context, addrs []string) {
	nodes := x.nodes(ctx, addrs)
	if len(nodes) == 0 {
		return
	}
	oldest, fullest := nodes[0], nodes[0]
	for _, n := range nodes {
		timeout, _ := strconv.ParseInt(n.config["cluster-node-timeout"], 10, 64)
		bulk, _ := strconv.ParseInt(n.config["proto-max-bulk-len"], 10, 64)
		if t := time.Duration(timeout) * time.Millisecond; x.nodeTimeout == 0 || t < x.nodeTimeout {
			x.nodeTimeout = t
		}
		if x.bulk == 0 || bulk < x.bulk {
			x.bulk = bulk
		}
		if !atLeast(n.info["redis_version"], 7, 0) {
			oldest = n
		}
		if n.share() > fullest.share() {
			fullest = n
		}
	}
	version := oldest.info["redis_version"]
	x.expect(oldest.server, "redis version", version, atLeast(version, 7, 0), Failed, "The scripts and streams need Redis 7.0 or newer.", "Upgrade Redis on each node.")
	x.memory(fullest.server)
	x.clients(fullest.server)
	x.settingsOf(nodes, []setting{
		{"cluster-require-full-coverage", "no", "With yes, one master that is away stops all shards, not its own alone.", exactly("no")},
		{"cluster-node-timeout", "3000", "After so many ms a master that does not answer is replaced. More is a longer outage; less replaces a master that is only busy.",
			func(v string) bool { n, err := strconv.Atoi(v); return err == nil && n >= 3000 && n <= 5000 }},
		{"appendonly", "yes", "Without it, a restart of a node loses every event under way there.", exactly("yes")},
		{"appendfsync", "always", "With always, an answered write is on the disk.", exactly("always")},
		{"maxmemory-policy", "noeviction", "A policy that evicts deletes streams, retries and idempotency keys when memory is full.", exactly("noeviction")},
	})
}

// share is how much of its memory a node uses; 2 if it has no limit.
func (s *server) share() float64 {
	limit, _ := strconv.ParseFloat(s.say("maxmemory", "maxmemory"), 64)
	used, _ := strconv.ParseFloat(s.info["used_memory"], 64)
	if limit == 0 {
		return 2
	}
	return used / limit
}

// restores is how long a node stands still for each entry of a stream that is moved to it, as
// measured with 100,000 entries.
const restores = 630 * time.Nanosecond

// shards checks SHARDS, and whether the largest stream can be moved to another master.
func (x *examination) shards(ctx context.Context) {
	const means = "A slot is moved key by key, each as one argument of at most proto-max-bulk-len bytes. Meanwhile its master stands still, and is replaced if that takes cluster-node-timeout."
	largest, n, err := x.Pipeline.Largest(ctx, event.Channels()...)
	if n > 0 {
		state, found := OK, strconv.Itoa(n)
		if want := x.Limits.Shards; want > 0 && want != n {
			state, found = Failed, fmt.Sprintf("SHARDS is %d, but the pipeline has %d", want, n)
		}
		x.add("shards", state, found, "The number is fixed when the pipeline first starts. A program with another one does not start.",
			fmt.Sprintf("Set SHARDS=%d for all programs, or let the pipeline run empty and delete the key %spipeline.", n, x.Prefix))
	}
	if err != nil {
		x.add("slots can move", Unknown, err.Error(), means, "If it is for rights, allow this user to ask: ACL SETUSER … +memory|usage.")
		return
	}
	still := time.Duration(largest.Entries) * restores
	state := OK
	if x.bulk > 0 && largest.Bytes > x.bulk/2 || x.nodeTimeout > 0 && still > x.nodeTimeout/2 {
		state = Warning
	}
	found := "no stream yet"
	if largest.Bytes > 0 {
		found = fmt.Sprintf("the largest stream is %s of shard %d: %s, %d entries; a move takes %s and at most %s", largest.Key, largest.Shard, size(largest.Bytes), largest.Entries, still.Round(time.Millisecond), size(x.bulk))
	}
	x.add("slots can move", state, found, means, "Let the stages work off the backlog, or drop dead letters, before slots are moved: `milepostctl status --shards`.")
}
