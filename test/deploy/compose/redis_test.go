package compose

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

func init() { logging.Disable() } // a server that is not up yet is asked often

// server is a redis-server started as the containers start theirs: by redis.sh, with one of the
// configuration files.
type server struct {
	t    *testing.T
	dir  string // its /data
	conf string
	addr string
	env  []string
	cmd  *exec.Cmd
	said *strings.Builder
}

func newServer(t *testing.T, conf string, env ...string) *server {
	t.Helper()
	stagetest.Real(t).Kill() // skips or fails where there is no redis-server
	file, err := filepath.Abs(filepath.Join(root, "charts/milepost/files", conf))
	stagetest.OK(t, err)
	s := &server{t: t, dir: t.TempDir(), conf: filepath.Join(t.TempDir(), conf), env: env}
	port := stagetest.FreePort(t)
	s.addr = fmt.Sprintf("127.0.0.1:%d", port)
	text := fmt.Sprintf("include %s\nport %d\nbind 127.0.0.1\n", file, port) // only where it listens is another place
	stagetest.OK(t, os.WriteFile(s.conf, []byte(text), 0o644))
	t.Cleanup(s.kill)
	return s
}

// command is redis.sh with the configuration.
func (s *server) command(ctx context.Context) *exec.Cmd {
	script, err := filepath.Abs(filepath.Join(root, "charts/milepost/files/redis.sh"))
	stagetest.OK(s.t, err)
	c := exec.CommandContext(ctx, "sh", script, s.conf)
	c.Dir, c.Env = s.dir, append(os.Environ(), s.env...)
	return c
}

// start returns a client of the server once it answers. With a password it answers with NOAUTH.
func (s *server) start(password string) *redis.Client {
	s.t.Helper()
	s.said = &strings.Builder{}
	s.cmd = s.command(context.Background())
	s.cmd.Stdout, s.cmd.Stderr = s.said, s.said
	stagetest.OK(s.t, s.cmd.Start())
	c := redis.NewClient(&redis.Options{Addr: s.addr, Password: password, MaxRetries: -1})
	s.t.Cleanup(func() { _ = c.Close() }) // nothing of it is needed any more
	up := false
	defer func() {
		if !up {
			s.kill()
			s.t.Logf("redis.sh said:\n%s", s.said)
		}
	}()
	stagetest.Eventually(s.t, "redis.sh has started a Redis that answers", func() bool {
		err := c.Ping(context.Background()).Err()
		up = err == nil || strings.HasPrefix(err.Error(), "NOAUTH")
		return up
	})
	return c
}

// kill ends the server with SIGKILL. redis.sh has become it.
func (s *server) kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill() // it may have ended by itself
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// With REDIS_PASSWORD a client must give it, whatever is in it.
func TestRedisPassword(t *testing.T) {
	t.Parallel()
	const password = `a "b' $c \d`
	s := newServer(t, "broker.conf", "REDIS_PASSWORD="+password)
	if err := s.start("").Ping(t.Context()).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOAUTH") {
		t.Errorf("PING without a password: %v, want NOAUTH", err)
	}
	c := stagetest.Client(t, &redis.Options{Addr: s.addr, Password: password})
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Errorf("PING with the password: %v", err)
	}
}

// A transaction that a kill cut in the log is taken off it before anything is appended, so that
// what is answered afterwards is there after the next start, too.
func TestRedisMendsItsLog(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := newServer(t, "broker.conf")
	c := s.start("")
	stagetest.OK(t, c.Set(ctx, "before", 1, 0).Err())
	log := s.log()
	whole := size(t, log)
	if _, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error {
		for i := range 10 {
			p.Set(ctx, fmt.Sprintf("cut%d", i), i, 0)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	s.kill()
	stagetest.OK(t, os.Truncate(log, whole+(size(t, log)-whole)/2))

	c = s.start("")
	stagetest.OK(t, c.Set(ctx, "after", 1, 0).Err())
	s.kill()
	c = s.start("")
	if keys, err := c.Keys(ctx, "*").Result(); err != nil || len(keys) != 2 || c.Exists(ctx, "before", "after").Val() != 2 {
		t.Errorf("after the cut and two starts there are the keys %q, %v; want before and after\n%s", keys, err, s.said)
	}
}

// A log that cannot be repaired stops the start, and is left as it is.
func TestRedisRefusesGarbage(t *testing.T) {
	t.Parallel()
	s := newServer(t, "broker.conf")
	stagetest.OK(t, s.start("").Set(t.Context(), "before", 1, 0).Err())
	s.kill()
	manifest := filepath.Join(s.dir, "appendonlydir", "appendonly.aof.manifest")
	stagetest.OK(t, os.WriteFile(manifest, []byte("nonsense\n"), 0o644))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := s.command(ctx).CombinedOutput()
	if b, _ := os.ReadFile(manifest); err == nil || ctx.Err() != nil || !strings.Contains(string(out), "manifest") || string(b) != "nonsense\n" {
		t.Errorf("with a broken manifest: %v\n%s\nwant an error that names it; it is now %q", err, out, b)
	}
}

// log is the file that the server appends to.
func (s *server) log() string {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) != 1 {
		s.t.Fatalf("logs are %q, %v; want one", files, err)
	}
	return files[0]
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	stagetest.OK(t, err)
	return info.Size()
}
