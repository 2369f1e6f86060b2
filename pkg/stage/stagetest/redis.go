// Package stagetest starts Redis servers for tests: a real redis-server on a free port, or an
// embedded one.
package stagetest

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// Server is a redis-server process. Its data survives Kill and Start, if it is durable.
type Server struct {
	Addr     string
	t        testing.TB
	args     []string
	dir      string
	cmd      *exec.Cmd
	log      string
	done     chan struct{}
	tls      *tls.Config // of a client; nil: no TLS
	password string
	known    string // in a Cluster: the address that all others have of it
}

// Real starts a redis-server that ends with the test; args are further words of its command line,
// such as "--maxmemory", "20mb". With CI=true a missing server fails the test, elsewhere it skips
// it.
func Real(t testing.TB, args ...string) *Server {
	t.Helper()
	s := prepare(t, nil, args)
	s.Start()
	return s
}

// Secure is Real with TLS alone; clients need the certificate, too.
func Secure(t testing.TB, c Certificates, args ...string) *Server {
	t.Helper()
	s := prepare(t, &c, args)
	s.Start()
	return s
}

// prepare makes a server that is not started yet.
func prepare(t testing.TB, secure *Certificates, args []string) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("redis-server is not installed: apt-get install redis-server")
		}
		t.Skip("not run: redis-server is not installed (apt-get install redis-server)")
	}
	port := FreePort(t)
	dir := t.TempDir()
	s := &Server{t: t, Addr: fmt.Sprintf("127.0.0.1:%d", port), dir: dir, log: filepath.Join(dir, "redis.log")}
	s.args = []string{"--port", fmt.Sprint(port)}
	if secure != nil {
		s.tls = secure.Client(t)
		s.args = []string{"--port", "0", "--tls-port", fmt.Sprint(port), "--tls-ca-cert-file", secure.CA, "--tls-cert-file", secure.Cert, "--tls-key-file", secure.Key}
	}
	s.args = append(s.args, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--logfile", s.log)
	s.args = append(s.args, args...)
	t.Cleanup(s.Kill)
	return s
}

// Durable are the arguments that make a killed server lose no answered write.
var Durable = []string{"--appendonly", "yes", "--appendfsync", "always"}

// Start starts the server, again if it was killed, and waits until it answers. A log it left is
// mended first, as the containers do: redis-server 7.0 would append behind a cut MULTI.
func (s *Server) Start() {
	s.t.Helper()
	s.mend()
	s.cmd = exec.Command("redis-server", s.args...)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) { _ = cmd.Wait(); close(done) }(s.cmd, s.done)
	c := s.Client()
	defer c.Close()
	for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		err := c.Ping(context.Background()).Err()
		if err == nil {
			return
		}
		if time.Since(start) > patience {
			log, _ := os.ReadFile(s.log)
			s.t.Fatalf("redis-server %s: %v\n%s", strings.Join(s.args, " "), err, log)
		}
	}
}

// mend runs redis-check-aof --fix, if there is something to check.
func (s *Server) mend() {
	s.t.Helper()
	manifest := filepath.Join(s.dir, "appendonlydir", "appendonly.aof.manifest")
	if _, err := os.Stat(manifest); err != nil {
		return
	}
	fix := exec.Command("redis-check-aof", "--fix", manifest)
	fix.Stdin = strings.NewReader("y\n") // it asks whether to cut
	if out, err := fix.CombinedOutput(); err != nil {
		s.t.Fatalf("redis-check-aof --fix: %v\n%s", err, out)
	}
}

// Kill ends the server with SIGKILL and waits for its end.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.done
}

// PID is that of the server process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Options are those of a client. They may be changed.
func (s *Server) Options() *redis.Options {
	return &redis.Options{Addr: s.Addr, Password: s.password, TLSConfig: s.tls}
}

// Client is a plain client that makes no second attempts and is closed when the test ends.
func (s *Server) Client() *redis.Client {
	o := s.Options()
	o.MaxRetries = -1
	return Client(s.t, o)
}

// Client is a client that is closed when the test ends.
func Client(t testing.TB, o *redis.Options) *redis.Client {
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Embedded starts an in-process Redis with a running clock that ends with the test, and returns
// what a client needs.
func Embedded(t testing.TB) *redis.Options {
	t.Helper()
	m := miniredis.RunT(t)
	tick, end := time.NewTicker(50*time.Millisecond), make(chan struct{})
	go func() {
		last := time.Now()
		for {
			select {
			case <-end:
				return
			case now := <-tick.C:
				m.FastForward(now.Sub(last))
				last = now
			}
		}
	}()
	t.Cleanup(func() { tick.Stop(); close(end) })
	return &redis.Options{Addr: m.Addr()}
}

// Both runs the test on an embedded and on a real Redis, in parallel with other tests.
func Both(t *testing.T, test func(t *testing.T, o *redis.Options)) {
	t.Parallel()
	t.Run("embedded", func(t *testing.T) { t.Parallel(); test(t, Embedded(t)) })
	t.Run("real", func(t *testing.T) { t.Parallel(); test(t, Real(t).Options()) })
}

// FreePort is a TCP port of the loopback address that was free a moment ago and that no other test
// gets until this one has ended, also none of another process. It is not one that systems hand out
// to clients: a program that keeps trying to reach a server that is away would in time be given the
// server's own port, and be connected to itself. Nor is the port 10,000 above, where a Redis in
// cluster mode listens too.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(10_000))
		// The UDP port of the same number, which nothing here uses, marks it as taken.
		mark, err := net.ListenPacket("udp", addr)
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			_ = mark.Close()
			continue
		}
		_ = l.Close() // nobody has connected
		t.Cleanup(func() { _ = mark.Close() })
		return l.Addr().(*net.TCPAddr).Port
	}
	t.Fatal("no free port")
	return 0
}
