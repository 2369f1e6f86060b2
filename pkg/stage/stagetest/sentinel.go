package stagetest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// MasterName is what the Sentinels of [Replicated] call their master.
const MasterName = "pipeline"

// Cluster is a master, its replicas, and three Sentinels that call the master down after a second.
type Cluster struct {
	Servers   []*Server // the first was the master at the start
	Sentinels []*Server
	t         testing.TB
}

// Replicated starts a durable master with two replicas and three Sentinels, and waits until they
// know each other. args are further words for each redis-server.
func Replicated(t testing.TB, args ...string) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	args = slices.Concat(Durable, []string{"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"}, args)
	for i := range 3 {
		s := Real(t, args...)
		if i > 0 {
			s.Kill()
			s.follow(c.Servers[0].Addr)
			s.Start()
		}
		c.Servers = append(c.Servers, s)
	}
	host, port, _ := strings.Cut(c.Servers[0].Addr, ":")
	for range 3 {
		dir, own := t.TempDir(), FreePort(t)
		conf := filepath.Join(dir, "sentinel.conf")
		text := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nlogfile %s/log\nsentinel monitor %[4]s %[5]s %[6]s 2\n"+
			"sentinel down-after-milliseconds %[4]s 1000\nsentinel failover-timeout %[4]s 3000\nsentinel parallel-syncs %[4]s 2\n",
			own, dir, dir, MasterName, host, port)
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s := &Server{t: t, Addr: fmt.Sprintf("127.0.0.1:%d", own), dir: dir, log: filepath.Join(dir, "log"), args: []string{conf, "--sentinel"}}
		s.Start()
		t.Cleanup(s.Kill)
		c.Sentinels = append(c.Sentinels, s)
	}
	c.Settled()
	return c
}

// follow makes the server a replica of addr when it is started next.
func (s *Server) follow(addr string) {
	if i := slices.Index(s.args, "--replicaof"); i >= 0 {
		s.args = slices.Delete(s.args, i, i+3)
	}
	host, port, _ := strings.Cut(addr, ":")
	s.args = append(s.args, "--replicaof", host, port)
}

// URL names the Sentinels as REDIS_URL does.
func (c *Cluster) URL() string {
	url := "redis://" + c.Sentinels[0].Addr + "/0?master_name=" + MasterName
	for _, s := range c.Sentinels[1:] {
		url += "&addr=" + s.Addr
	}
	return url
}

// sentinel calls f with a client of a Sentinel.
func sentinel[T any](s *Server, f func(*redis.SentinelClient) (T, error)) (T, error) {
	client := redis.NewSentinelClient(&redis.Options{Addr: s.Addr, MaxRetries: -1})
	defer client.Close()
	return f(client)
}

// Master returns the server that all Sentinels call the master, nil if they do not agree.
func (c *Cluster) Master() *Server {
	named := ""
	for _, s := range c.Sentinels {
		addr, err := sentinel(s, func(q *redis.SentinelClient) ([]string, error) {
			return q.GetMasterAddrByName(context.Background(), MasterName).Result()
		})
		if err != nil || len(addr) != 2 || named != "" && named != addr[0]+":"+addr[1] {
			return nil
		}
		named = addr[0] + ":" + addr[1]
	}
	i := slices.IndexFunc(c.Servers, func(s *Server) bool { return s.Addr == named })
	if i < 0 {
		return nil
	}
	return c.Servers[i]
}

// Settled waits until the Sentinels know each other and all replicas have what the master has, so
// that a failover can succeed.
func (c *Cluster) Settled() {
	c.t.Helper()
	Eventually(c.t, "the Sentinels know each other and the replicas follow the master", func() bool {
		m := c.Master()
		if m == nil || !m.followed(2) { // what the Sentinels know is up to 10 s old
			return false
		}
		for _, s := range c.Sentinels {
			about, err := sentinel(s, func(q *redis.SentinelClient) (map[string]string, error) {
				return q.Master(context.Background(), MasterName).Result()
			})
			if err != nil || about["num-other-sentinels"] != "2" || about["num-slaves"] != "2" || about["flags"] != "master" {
				return false
			}
			replicas, err := sentinel(s, func(q *redis.SentinelClient) ([]map[string]string, error) {
				return q.Replicas(context.Background(), MasterName).Result()
			})
			if err != nil || slices.ContainsFunc(replicas, func(r map[string]string) bool {
				return r["flags"] != "slave" || r["master-link-status"] != "ok" || r["master-host"]+":"+r["master-port"] != m.Addr
			}) {
				return false
			}
		}
		return true
	})
}

// followed tells whether so many replicas have what the master had a moment ago.
func (s *Server) followed(replicas int) bool {
	rdb := s.Client()
	defer rdb.Close()
	info, err := rdb.Info(context.Background(), "replication").Result()
	if err != nil || strings.Count(info, "state=online") != replicas {
		return false
	}
	n, err := rdb.Wait(context.Background(), replicas, time.Second).Result()
	return err == nil && int(n) == replicas
}

// Fail kills the master, calls killed, and returns the next master, when the Sentinels have made
// it. The killed one comes back as its replica.
func (c *Cluster) Fail(killed func()) *Server {
	c.t.Helper()
	old := c.Master()
	if old == nil {
		c.t.Fatal("the Sentinels do not agree on a master")
	}
	old.Kill()
	killed()
	next := c.next(old)
	old.follow(next.Addr)
	old.Start()
	return next
}

// Switch has a Sentinel replace the master, which lives on, and returns the next one.
func (c *Cluster) Switch() *Server {
	c.t.Helper()
	old := c.Master()
	Eventually(c.t, "a Sentinel begins a failover", func() bool {
		_, err := sentinel(c.Sentinels[0], func(q *redis.SentinelClient) (string, error) {
			return q.Failover(context.Background(), MasterName).Result()
		})
		return err == nil
	})
	return c.next(old)
}

// Hold keeps replicas from getting anything more from the master.
func (c *Cluster) Hold(replicas ...*Server) {
	c.t.Helper()
	ctx, m := context.Background(), c.Master().Client()
	defer m.Close()
	if err := m.Do(ctx, "acl", "setuser", "default", "-psync", "-sync").Err(); err != nil {
		c.t.Fatal(err)
	}
	for _, r := range replicas {
		rdb := r.Client()
		defer rdb.Close()
		text, err := rdb.Do(ctx, "client", "list", "type", "master").Text()
		_, link, _ := strings.Cut(text, " laddr=")
		link, _, _ = strings.Cut(link, " ")
		if n, kill := m.ClientKillByFilter(ctx, "addr", link).Result(); err != nil || kill != nil || n != 1 {
			c.t.Fatalf("hold the replica %s back: its link %q, %v; killed %d, %v", r.Addr, link, err, n, kill)
		}
	}
}

// next waits for another master than old.
func (c *Cluster) next(old *Server) (next *Server) {
	c.t.Helper()
	Eventually(c.t, "the Sentinels have made another master", func() bool {
		next = c.Master()
		return next != nil && next != old
	})
	return next
}
