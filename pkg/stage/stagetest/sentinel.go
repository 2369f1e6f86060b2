package stagetest

import (
	"context"
	"fmt"
	"net/url"
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

// Cluster is a master, its replicas, and three Sentinels that call the master down after 3 s.
type Cluster struct {
	Servers   []*Server // the first was the master at the start
	Sentinels []*Server
	t         testing.TB
}

// Replication says how a [Cluster] is started.
type Replication struct {
	Args []string // further words for each redis-server
	// Via returns the address by which all others know the server at addr, such as that of a
	// proxy. Default: addr.
	Via          func(addr string) string
	Certificates *Certificates // TLS alone. Default: none
	// Password and SentinelPassword are those of the default user. Default: none.
	Password, SentinelPassword string
}

// Replicated is [Replication.Start] with further words for each redis-server.
func Replicated(t testing.TB, args ...string) *Cluster {
	t.Helper()
	return Replication{Args: args}.Start(t)
}

// Start starts a durable master with two replicas and three Sentinels, and waits until they know
// each other.
func (r Replication) Start(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	args := slices.Concat(Durable, []string{"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"}, r.Args)
	if r.Password != "" {
		args = append(args, "--requirepass", r.Password, "--masterauth", r.Password)
	}
	if r.Certificates != nil {
		args = append(args, "--tls-replication", "yes")
	}
	for range 3 {
		s := prepare(t, r.Certificates, args)
		s.password, s.known = r.Password, s.Addr
		if r.Via != nil {
			s.known = r.Via(s.Addr)
			host, port, _ := strings.Cut(s.known, ":")
			s.args = append(s.args, "--replica-announce-ip", host, "--replica-announce-port", port)
		}
		if len(c.Servers) > 0 {
			s.follow(c.Servers[0])
		}
		s.Start()
		c.Servers = append(c.Servers, s)
	}
	for range 3 {
		c.Sentinels = append(c.Sentinels, r.sentinel(t, c.Servers[0].known))
	}
	c.Settled()
	return c
}

// sentinel starts one that knows the master.
func (r Replication) sentinel(t testing.TB, master string) *Server {
	t.Helper()
	dir, port := t.TempDir(), FreePort(t)
	s := &Server{t: t, Addr: fmt.Sprintf("127.0.0.1:%d", port), dir: dir, log: filepath.Join(dir, "log"), password: r.SentinelPassword}
	monitor := strings.ReplaceAll(master, ":", " ")
	lines := []string{
		fmt.Sprint("port ", port), "bind 127.0.0.1", "dir " + dir, "logfile " + s.log, "sentinel monitor " + MasterName + " " + monitor + " 2",
		"sentinel down-after-milliseconds " + MasterName + " 3000", "sentinel failover-timeout " + MasterName + " 1000", "sentinel parallel-syncs " + MasterName + " 2",
	}
	if c := r.Certificates; c != nil {
		s.tls = c.Client(t)
		lines = append(lines[1:], "port 0", fmt.Sprint("tls-port ", port), "tls-replication yes", "tls-ca-cert-file "+c.CA, "tls-cert-file "+c.Cert, "tls-key-file "+c.Key)
	}
	if r.Password != "" {
		lines = append(lines, "sentinel auth-pass "+MasterName+" "+r.Password)
	}
	if r.SentinelPassword != "" {
		lines = append(lines, "requirepass "+r.SentinelPassword, "sentinel sentinel-pass "+r.SentinelPassword)
	}
	conf := filepath.Join(dir, "sentinel.conf")
	if err := os.WriteFile(conf, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.args = []string{conf, "--sentinel"}
	s.Start()
	t.Cleanup(s.Kill)
	return s
}

// follow makes the server a replica of the master when it is started next.
func (s *Server) follow(master *Server) {
	if i := slices.Index(s.args, "--replicaof"); i >= 0 {
		s.args = slices.Delete(s.args, i, i+3)
	}
	host, port, _ := strings.Cut(master.known, ":")
	s.args = append(s.args, "--replicaof", host, port)
}

// URL names the Sentinels as REDIS_URL does, with both passwords.
func (c *Cluster) URL() string {
	u := url.URL{Scheme: "redis", Host: c.Sentinels[0].Addr, Path: "/0"}
	if c.Sentinels[0].tls != nil {
		u.Scheme = "rediss"
	}
	if p := c.Sentinels[0].password; p != "" {
		u.User = url.UserPassword("", p)
	}
	query := url.Values{"master_name": {MasterName}}
	if p := c.Servers[0].password; p != "" {
		query.Set("password", p)
	}
	for _, s := range c.Sentinels[1:] {
		query.Add("addr", s.Addr)
	}
	u.RawQuery = query.Encode()
	return u.String()
}

// sentinel calls f with a client of a Sentinel.
func sentinel[T any](s *Server, f func(*redis.SentinelClient) (T, error)) (T, error) {
	o := s.Options()
	o.MaxRetries = -1
	client := redis.NewSentinelClient(o)
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
	i := slices.IndexFunc(c.Servers, func(s *Server) bool { return s.known == named })
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
				return r["flags"] != "slave" || r["master-link-status"] != "ok" || r["master-host"]+":"+r["master-port"] != m.known
			}) {
				return false
			}
		}
		return true
	})
}

// followed tells whether so many replicas have what the master had a moment ago.
func (s *Server) followed(replicas int) bool {
	rdb := redis.NewClient(s.Options()) // closed now, and not when the test ends: there are many
	defer rdb.Close()
	info, err := rdb.Info(context.Background(), "replication").Result()
	if err != nil || strings.Count(info, "state=online") != replicas {
		return false
	}
	n, err := rdb.Wait(context.Background(), replicas, time.Second).Result()
	return err == nil && int(n) == replicas
}

// Fail calls down, which takes the master away, and returns the next master, when the Sentinels
// have made it. The old one is killed, if it is not dead, and comes back as a replica.
func (c *Cluster) Fail(down func(master *Server)) *Server {
	c.t.Helper()
	old := c.next(nil)
	down(old)
	next := c.next(old)
	old.Kill()
	old.follow(next)
	old.Start()
	return next
}

// Switch has a Sentinel replace the master, which lives on, and returns the next one.
func (c *Cluster) Switch() *Server {
	c.t.Helper()
	old := c.next(nil)
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
	ctx, m := context.Background(), c.next(nil).Client()
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

// next waits until the Sentinels agree on another master than old.
func (c *Cluster) next(old *Server) (next *Server) {
	c.t.Helper()
	Eventually(c.t, "the Sentinels agree on the next master", func() bool {
		next = c.Master()
		return next != nil && next != old
	})
	return next
}
