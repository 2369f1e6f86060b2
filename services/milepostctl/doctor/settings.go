package doctor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// setting is one of redis.conf that is judged by its value alone.
type setting struct {
	name  string
	want  string                    // the value to set
	state func(value string) string // OK, Warning or Failed
	means string
}

// among is the state of a value that is OK if it is one of good, else bad.
func among(bad string, good ...string) func(string) string {
	return func(value string) string {
		if slices.Contains(good, value) {
			return OK
		}
		return bad
	}
}

// not is the state of a value that is bad if it is wrong, else OK.
func not(wrong, bad string) func(string) string {
	return func(value string) string {
		if value == wrong {
			return bad
		}
		return OK
	}
}

// settings are those that each node of the pipeline's Redis should have. nodes are those that
// answer.
func (x *examination) settings(nodes []*server) []setting {
	sync := func(value string) string {
		if value == "no" {
			return Failed
		}
		return among(Warning, "always")(value)
	}
	all := []setting{
		{"appendonly", "yes", among(Failed, "yes"), "Without the append-only file, a restart of Redis loses every event under way."},
		{"appendfsync", "always", sync, "With always, an answered write is on the disk. With everysec, a kill during a slow fsync loses answered writes: thousands in a trial."},
		{"maxmemory-policy", "noeviction", among(Failed, "noeviction"), "A policy that evicts deletes streams, retries and idempotency keys when memory is full. With noeviction Redis refuses to publish, and web-api answers 503."},
	}
	if x.Cluster {
		timeout := func(value string) string {
			if ms, err := strconv.Atoi(value); err != nil || ms < 3000 || ms > 5000 {
				return Warning
			}
			return OK
		}
		all = append(all, []setting{
			{"cluster-require-full-coverage", "no", among(Warning, "no"), "With yes, one master that is away stops all shards, not its own alone."},
			{"cluster-node-timeout", "3000", timeout, "After so many ms a master that does not answer is replaced. More is a longer outage; less replaces a master that is only busy."},
		}...)
	}
	if x.Failover != nil {
		wait := strconv.Itoa(x.Tuning.WaitFor)
		priority := func(value string) string {
			if value == "0" {
				return Warning
			}
			return among(Warning, nodes[0].config["replica-priority"])(value)
		}
		all = append(all, []setting{
			{"replica-priority", "100", priority, "Sentinel promotes the replica with the lowest value first, even one that lacks the last writes."},
			{"min-replicas-to-write", wait, among(Warning, wait), "A master that lost its replicas must stop taking writes, or it goes on beside the new one. It should be WAIT_REPLICAS."},
			{"repl-diskless-load", "disabled", among(Warning, "disabled"), "Otherwise a replica may throw its data away before it has the master's."},
		}...)
	}
	if x.Failover != nil && x.Tuning.WaitFor > 0 {
		all = append(all, setting{"min-replicas-max-lag", "2", among(Warning, "2", "3"), "So many seconds an abandoned master goes on."})
	}
	return all
}

// cacheSettings are those that the cache's own Redis should have.
var cacheSettings = []setting{
	{"maxmemory-policy", "volatile-ttl", not("noeviction", Warning), "The cache can always be refilled, so it may evict. volatile-ttl evicts first what expires first."},
	{"maxmemory", "100mb", not("0", Warning), "Without a limit the cache fills the machine's memory."},
}

// judge judges the setting on all nodes.
func (s setting) judge(nodes []*server) answer {
	state := OK
	var wrong, silent []string
	for _, n := range nodes {
		addr := n.rdb.Options().Addr
		value, told := n.config[s.name]
		here := s.state(value)
		switch {
		case !told:
			silent = append(silent, fmt.Sprintf("%s does not tell: %v", addr, n.silent))
		case here == OK:
		case len(nodes) == 1:
			state, wrong = here, []string{value}
		default:
			wrong = append(wrong, addr+" has "+value)
			if state != Failed {
				state = here
			}
		}
	}
	switch {
	case len(wrong) > 0:
		return answer{state, strings.Join(wrong, "; "), fmt.Sprintf("In redis.conf `%s %s`; now: CONFIG SET %[1]s %[2]s.", s.name, s.want)}
	case len(silent) > 0:
		return answer{Unknown, strings.Join(silent, "; "), "Look at redis.conf, or allow this user to read it: ACL SETUSER … +config|get."}
	}
	return answer{OK, nodes[0].config[s.name], ""}
}
