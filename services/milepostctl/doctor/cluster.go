package doctor

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
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
