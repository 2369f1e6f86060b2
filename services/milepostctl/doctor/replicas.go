package doctor

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

// online counts the replicas of a master.
func (s *server) online() (n int) {
	for name, value := range s.info {
		if strings.HasPrefix(name, "slave") && strings.Contains(value, "state=online") {
			n++
		}
	}
	return n
}

// replicas compares WAIT_REPLICAS with the replicas of the master, or of that which has the fewest.
func (x *examination) replicas(have int) {
	const means = "web-api answers 201 only if WAIT_REPLICAS replicas of the master have the submission. With fewer than all, a failover may lose what was answered: the replica that takes over may not have it."
	wait := x.Tuning.WaitFor
	a := judge(fmt.Sprintf("WAIT_REPLICAS %d, replicas %d", wait, have), wait == have, Warning, fmt.Sprintf("Set WAIT_REPLICAS=%d for web-api and the tool.", have))
	switch {
	case wait > have:
		a.state, a.change = Failed, "Start the missing replicas, or lower WAIT_REPLICAS: until then submissions are answered 503."
	case have == 0 && (x.Cluster || x.Failover != nil):
		a.state, a.change = Warning, "Give each master a replica: without one, its events wait until it is back."
	}
	x.add("replicas", means, a)
}

// sentinels checks the Sentinels of the URL. It returns the addresses of the master and its
// replicas.
func (x *examination) sentinels(ctx context.Context) (nodes []string) {
	f := x.Failover
	var wrong []string
	for _, addr := range f.SentinelAddrs {
		s := redis.NewSentinelClient(&redis.Options{
			Addr: addr, Username: f.SentinelUsername, Password: f.SentinelPassword, TLSConfig: x.Redis.TLSConfig,
			MaxRetries: -1, DialerRetries: 1, DialTimeout: x.Timeout, ReadTimeout: x.Timeout, DisableIdentity: true,
		})
		about, err := s.Master(ctx, f.MasterName).Result()
		if err == nil {
			err = s.CkQuorum(ctx, f.MasterName).Err()
		}
		others, _ := strconv.Atoi(about["num-other-sentinels"])
		switch {
		case err != nil:
			wrong = append(wrong, addr+": "+err.Error())
		case others+1 != len(f.SentinelAddrs):
			wrong = append(wrong, fmt.Sprintf("%s knows %d Sentinels, REDIS_URL names %d", addr, others+1, len(f.SentinelAddrs)))
		}
		if len(nodes) == 0 && about["ip"] != "" {
			nodes = append(nodes, net.JoinHostPort(about["ip"], about["port"]))
			list, _ := s.Replicas(ctx, f.MasterName).Result()
			for _, r := range list {
				nodes = append(nodes, net.JoinHostPort(r["ip"], r["port"]))
			}
		}
		_ = s.Close() // nothing was written
	}
	a := judge(fmt.Sprintf("%d agree", len(f.SentinelAddrs)), len(f.SentinelAddrs) >= 3, Warning, "Run three, on three machines: of two, the loss of one leaves no majority.")
	if len(wrong) > 0 {
		a = answer{Failed, strings.Join(wrong, "; "), "Start those that are missing, name all of them in REDIS_URL with addr=, and give all the same master and password."}
	}
	x.add("sentinels", "A majority of the Sentinels, and at least the quorum, must reach each other to replace a master.", a)
	return nodes
}

// cluster checks the slots of a Redis Cluster and its nodes. It returns those that answer.
func (x *examination) cluster(ctx context.Context, s *server) []*server {
	c, err := inspect.AskCluster(ctx, s.rdb)
	a := judge(fmt.Sprintf("%d of %d covered by %d masters", c.Covered, inspect.AllSlots, c.Masters), c.Covered == inspect.AllSlots, Failed,
		"`redis-cli --cluster fix` gives the others to a master. Bring a lost one back first.")
	if err != nil {
		a = answer{Unknown, err.Error(), "Allow this user to read them: ACL SETUSER … +cluster|slots."}
	}
	x.add("cluster slots", "A shard whose slot has no master stops, and its events wait.", a)
	x.replicas(c.Replicas)
	return x.nodes(ctx, c.Nodes)
}

// shards checks SHARDS, and whether the largest stream can be moved to another master.
func (x *examination) shards(ctx context.Context, nodes []*server) {
	const means = "A slot is moved key by key, each as one argument of at most proto-max-bulk-len bytes. Meanwhile its master stands still, and is replaced if that takes cluster-node-timeout."
	largest, n, err := x.Pipeline.Largest(ctx, event.Channels()...)
	if n > 0 {
		a := answer{OK, strconv.Itoa(n), ""}
		if x.Shards != 0 && x.Shards != n {
			a = answer{Failed, fmt.Sprintf("SHARDS is %d, but the pipeline has %d", x.Shards, n),
				fmt.Sprintf("Set SHARDS=%d for all programs, or let the pipeline run empty and delete the key %spipeline.", n, x.Prefix)}
		}
		x.add("shards", "The number is fixed when the pipeline first starts. A program with another one does not start.", a)
	}
	if err != nil {
		x.add("slots can move", means, answer{Unknown, err.Error(), "If it is for rights, allow this user to ask: ACL SETUSER … +memory|usage."})
		return
	}
	// A node stands still for so long for each entry, as measured with 100,000 entries.
	still := time.Duration(largest.Entries) * 630 * time.Nanosecond
	bytes, patience := least(nodes, "proto-max-bulk-len"), time.Duration(least(nodes, "cluster-node-timeout"))*time.Millisecond
	found := "no stream yet"
	if largest.Bytes > 0 {
		found = fmt.Sprintf("the largest stream is %s of shard %d: %s, %d entries; a move takes %s and at most %s",
			largest.Key, largest.Shard, size(float64(largest.Bytes)), largest.Entries, still.Round(time.Millisecond), size(bytes))
	}
	fits := bytes == 0 || float64(largest.Bytes) <= bytes/2
	x.add("slots can move", means, judge(found, fits && (patience == 0 || still <= patience/2), Warning,
		"Let the stages work off the backlog, or drop dead letters, before slots are moved: `milepostctl status --shards`."))
}

// least is the lowest value of a setting of the nodes that tell it; 0 if none does.
func least(nodes []*server, name string) (lowest float64) {
	for _, s := range nodes {
		if v, err := strconv.ParseFloat(s.config[name], 64); err == nil && (lowest == 0 || v < lowest) {
			lowest = v
		}
	}
	return lowest
}
