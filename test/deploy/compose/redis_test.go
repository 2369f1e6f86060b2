package compose

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/test/process"
)

func init() { logging.Disable() } // a server that is not up yet is asked often

// server is a redis-server started as the containers start theirs: by redis.sh, with one of the
// configuration files.
type server struct {
	*process.Process // in its /data
	addr             string
}

func newServer(t *testing.T, conf string, env ...string) *server {
	t.Helper()
	stagetest.Real(t).Kill() // skips or fails where there is no redis-server
	file, err := filepath.Abs(filepath.Join(root, "charts/milepost/files", conf))
	stagetest.OK(t, err)
	port, text := stagetest.FreePort(t), filepath.Join(t.TempDir(), conf)
	s := &server{process.New(t, "redis.sh", "/bin/sh", filepath.Join(filepath.Dir(file), "redis.sh"), text), fmt.Sprintf("127.0.0.1:%d", port)}
	s.Env = append(s.Env, env...)
	only := fmt.Sprintf("include %s\nport %d\nbind 127.0.0.1\n", file, port) // where it listens is another place
	stagetest.OK(t, os.WriteFile(text, []byte(only), 0o644))
	return s
}

// start returns a client of the server once it answers. With a password it answers with NOAUTH.
func (s *server) start(password string) *redis.Client {
	s.T.Helper()
	c := stagetest.Client(s.T, &redis.Options{Addr: s.addr, Password: password, MaxRetries: -1})
	s.Up = func(ctx context.Context) error {
		if err := c.Ping(ctx).Err(); err != nil && !strings.HasPrefix(err.Error(), "NOAUTH") {
			return err
		}
		return nil
	}
	s.Start()
	s.Ready()
	return c
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
	s.Kill()
	stagetest.OK(t, os.Truncate(log, whole+(size(t, log)-whole)/2))

	c = s.start("")
	stagetest.OK(t, c.Set(ctx, "after", 1, 0).Err())
	s.Kill()
	c = s.start("")
	if keys, err := c.Keys(ctx, "*").Result(); err != nil || len(keys) != 2 || c.Exists(ctx, "before", "after").Val() != 2 {
		t.Errorf("after the cut and two starts there are the keys %q, %v; want before and after\n%s", keys, err, s.Output())
	}
}

// A log that cannot be repaired stops the start, and is left as it is.
func TestRedisRefusesGarbage(t *testing.T) {
	t.Parallel()
	s := newServer(t, "broker.conf")
	stagetest.OK(t, s.start("").Set(t.Context(), "before", 1, 0).Err())
	s.Kill()
	manifest := filepath.Join(s.Dir, "appendonlydir", "appendonly.aof.manifest")
	stagetest.OK(t, os.WriteFile(manifest, []byte("nonsense\n"), 0o644))
	s.Start()
	code := s.Wait()
	if b, _ := os.ReadFile(manifest); code == 0 || !strings.Contains(s.Output(), "manifest") || string(b) != "nonsense\n" {
		t.Errorf("with a broken manifest: status %d\n%s\nwant an error that names it; it is now %q", code, s.Output(), b)
	}
}

// log is the file that the server appends to.
func (s *server) log() string {
	s.T.Helper()
	files, err := filepath.Glob(filepath.Join(s.Dir, "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) != 1 {
		s.T.Fatalf("logs are %q, %v; want one", files, err)
	}
	return files[0]
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	stagetest.OK(t, err)
	return info.Size()
}
