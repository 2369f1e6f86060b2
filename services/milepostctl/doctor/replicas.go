package doctor

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// replication checks what a failover depends on: Sentinel, and the settings of all nodes.
func (x *examination) replication(ctx context.Context, master *server) {
	replicas := 0
	for name, value := range master.info {
		if strings.HasPrefix(name, "slave") && strings.Contains(value, "state=online") {
			replicas++
		}
	}
	x.copies(replicas)
	if x.Failover == nil {
		return
	}
	x.failover(x.nodes(ctx, x.sentinels(ctx)))
}

// nodes asks those that answer.
func (x *examination) nodes(ctx context.Context, addrs []string) (all []*node) {
	for _, addr := range addrs {
		if n := x.node(ctx, addr); n != nil {
			all = append(all, n)
		}
	}
	return all
}

// copies checks WAIT_REPLICAS against the replicas of the master, or of that which has the fewest.
func (x *examination) copies(replicas int) {
	const means = "web-api answers 201 only if WAIT_REPLICAS replicas of the master have the submission. With fewer than all, a failover may lose what was answered: the replica that takes over may not have it."
	wait := x.Limits.WaitFor
	found := fmt.Sprintf("WAIT_REPLICAS %d, replicas %d", wait, replicas)
	switch {
	case wait > replicas:
		x.add("replicas", Failed, found, means, "Start the missing replicas, or lower WAIT_REPLICAS: until then submissions are answered 503.")
	case replicas == 0 && (x.Cluster || x.Failover != nil):
		x.add("replicas", Warning, found, means, "Give each master a replica: without one, its events wait until it is back.")
	case wait < replicas:
		x.add("replicas", Warning, found, means, fmt.Sprintf("Set WAIT_REPLICAS=%d for web-api and the tool.", replicas))
	default:
		x.add("replicas", OK, found, means, "")
	}
}

// sentinels checks the Sentinels of the URL and returns the addresses of the master and its
// replicas.
func (x *examination) sentinels(ctx context.Context) (nodes []string) {
	const means = "A majority of the Sentinels, and at least the quorum, must reach each other to replace a master."
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
	found := fmt.Sprintf("%d agree", len(f.SentinelAddrs))
	switch {
	case len(wrong) > 0:
		x.add("sentinels", Failed, strings.Join(wrong, "; "), means, "Start those that are missing, name all of them in REDIS_URL with addr=, and give all the same master and password.")
	case len(f.SentinelAddrs) < 3:
		x.add("sentinels", Warning, found, means, "Run three, on three machines: of two, the loss of one leaves no majority.")
	default:
		x.add("sentinels", OK, found, means, "")
	}
	return nodes
}

type node struct {
	*server
	addr string
}

// node asks one node, with the pipeline's credentials. It returns nil if that does not answer.
func (x *examination) node(ctx context.Context, addr string) *node {
	o := x.at(addr)
	s, err := askServer(ctx, o, x.Timeout)
	if err != nil {
		change := remedy(err, "REDIS", o)
		if redis.HasErrorPrefix(err, "NOAUTH") || redis.HasErrorPrefix(err, "WRONGPASS") {
			change = "Give all nodes the same users and passwords: requirepass or ACL SETUSER, and masterauth."
		}
		x.add("node "+addr, Failed, err.Error(), "Each node may become the master, so each must answer with the same user and password.", change)
		return nil
	}
	defer func() { _ = s.rdb.Close() }() // nothing was written
	if s.info["role"] == "slave" && s.info["master_link_status"] != "up" {
		x.add("node "+addr, Failed, "does not follow its master", "A replica that lags behind cannot take over without loss.",
			"Look at its log: masterauth and masteruser must be the master's password and user.")
	}
	return &node{s, addr}
}

// setting is one that all nodes should have.
type setting struct {
	name, want, means string
	ok                func(value string) bool
}

func exactly(want string) func(string) bool { return func(v string) bool { return v == want } }

// failover checks that the nodes have the settings with which it loses nothing.
func (x *examination) failover(nodes []*node) {
	wait := x.Limits.WaitFor
	if len(nodes) == 0 {
		return
	}
	x.settingsOf(nodes, []setting{
		{"replica-priority", "100", "Sentinel promotes the replica with the lowest value first, even one that lacks the last writes.",
			func(v string) bool { return v != "0" && v == nodes[0].config["replica-priority"] }},
		{"min-replicas-to-write", strconv.Itoa(wait), "A master that lost its replicas must stop taking writes, or it goes on beside the new one. It should be WAIT_REPLICAS.",
			exactly(strconv.Itoa(wait))},
		{"min-replicas-max-lag", "2", "So many seconds an abandoned master goes on.",
			func(v string) bool { return v == "2" || v == "3" || wait == 0 }},
		{"repl-diskless-load", "disabled", "Otherwise a replica may throw its data away before it has the master's.", exactly("disabled")},
		{"appendonly", "yes", "Each node may become the master.", exactly("yes")},
		{"appendfsync", "always", "Each node may become the master.", exactly("always")},
	})
}

// settingsOf checks the settings of the nodes, of which there is one.
func (x *examination) settingsOf(nodes []*node, settings []setting) {
	for _, c := range settings {
		var wrong, silent []string
		for _, n := range nodes {
			switch v, told := n.config[c.name]; {
			case !told:
				silent = append(silent, n.addr)
			case !c.ok(v):
				wrong = append(wrong, n.addr+" has "+v)
			}
		}
		check := "nodes " + c.name
		switch {
		case len(wrong) > 0:
			x.add(check, Warning, strings.Join(wrong, "; "), c.means, fmt.Sprintf("On each node: CONFIG SET %s %s, and the same in its redis.conf.", c.name, c.want))
		case len(silent) > 0:
			x.add(check, Unknown, "not told by "+strings.Join(silent, ", "), c.means, "Allow this user to read it: ACL SETUSER … +config|get.")
		default:
			x.add(check, OK, nodes[0].config[c.name], c.means, "")
		}
	}
}
