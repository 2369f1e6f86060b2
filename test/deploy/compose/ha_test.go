package compose

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// TestHA: with docker-compose.ha.yml every program finds the master by three Sentinels, and the new
// containers are as hardened as the others.
func TestHA(t *testing.T) {
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml"), filepath.Join(root, "docker-compose.ha.yml")},
		cli.WithWorkingDirectory(root), cli.WithEnv([]string{"REDIS_PASSWORD=secret"}), cli.WithProfiles([]string{"load"}), cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	p, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatalf("docker-compose.ha.yml: %v", err)
	}
	hardened(t, p)
	for name, s := range ours(p) {
		var cfg config.Broker
		err := config.Load(func(v string) string {
			if value := s.Environment[v]; value != nil {
				return *value
			}
			return ""
		}, &cfg)
		if f := cfg.Failover(); err != nil || f == nil || len(f.SentinelAddrs) != 3 || f.Password != "secret" || cfg.WaitFor != 1 {
			t.Errorf("%s: %+v, %v; want three Sentinels, the password, WAIT_REPLICAS 1", name, f, err)
		} else {
			for _, addr := range f.SentinelAddrs {
				if host, _, _ := strings.Cut(addr, ":"); p.Services[host].Name == "" {
					t.Errorf("%s asks %s, which is no service", name, host)
				}
			}
		}
	}
	for name, s := range p.Services {
		if len(s.Command) > 2 && s.Command[1] == "/etc/redis/ha.sh" && !slices.ContainsFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool { return v.Target == "/data" }) {
			t.Errorf("%s keeps no data", name)
		}
	}
}

// haNode is a broker or a Sentinel, started as the containers start theirs.
type haNode struct {
	addr, dir string
	cmd       *exec.Cmd
}

func (n *haNode) start(t *testing.T, script string, env []string, args ...string) {
	t.Helper()
	n.cmd = exec.Command("sh", append([]string{script}, args...)...)
	n.cmd.Dir, n.cmd.Env, n.cmd.SysProcAttr = n.dir, append(os.Environ(), env...), &syscall.SysProcAttr{Setpgid: true}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func (n *haNode) kill() {
	_ = syscall.Kill(-n.cmd.Process.Pid, syscall.SIGKILL)
	_ = n.cmd.Wait()
}

// TestHAScript: a killed master is replaced. If it comes back at once and its folder is empty, it
// does not empty the replicas.
func TestHAScript(t *testing.T) {
	t.Parallel()
	stagetest.Real(t).Kill() // skips or fails where there is no redis-server
	conf, err := filepath.Abs(filepath.Join(root, "charts/milepost/files/broker.conf"))
	if err != nil {
		t.Fatal(err)
	}
	here := t.TempDir() // the two scripts lie side by side in the containers
	for _, name := range []string{"charts/milepost/files/ha.sh", "charts/milepost/files/redis.sh"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(here, filepath.Base(name)), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var nodes, sentinels []*haNode
	var addrs, asked []string
	for range 3 {
		nodes = append(nodes, &haNode{addr: fmt.Sprintf("127.0.0.1:%d", stagetest.FreePort(t)), dir: t.TempDir()})
		sentinels = append(sentinels, &haNode{addr: fmt.Sprintf("127.0.0.1:%d", stagetest.FreePort(t)), dir: t.TempDir()})
		addrs, asked = append(addrs, nodes[len(nodes)-1].addr), append(asked, sentinels[len(sentinels)-1].addr)
	}
	env := []string{"REDIS_PASSWORD=p\"w", "REDISCLI_AUTH=p\"w", "BROKER_CONF=" + conf, "SENTINELS=" + strings.Join(asked, " "), "DOWN_AFTER=1000"}
	start := func(n *haNode) {
		n.start(t, filepath.Join(here, "ha.sh"), env, append([]string{"broker", n.addr}, addrs...)...)
	}
	for _, n := range nodes {
		start(n)
		t.Cleanup(func() { n.kill() })
	}
	for _, s := range sentinels {
		s.start(t, filepath.Join(here, "ha.sh"), env, "sentinel", strings.Split(s.addr, ":")[1], addrs[0])
		t.Cleanup(func() { s.kill() })
	}
	ctx := context.Background()
	rdb := redis.NewClient(config.Redis{RedisURL: config.RedisURL("redis://" + asked[0] + "/0?master_name=pipeline&addr=" + asked[1] + "&addr=" + asked[2]), RedisPassword: "p\"w"}.Options())
	defer rdb.Close()
	haSettled(t, rdb, asked)
	if err := rdb.Set(ctx, "kept", "yes", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := rdb.Wait(ctx, 2, 0).Result(); err != nil || n != 2 {
		t.Fatalf("WAIT = %d, %v", n, err)
	}
	nodes[0].kill()
	if err := os.RemoveAll(filepath.Join(nodes[0].dir, "appendonlydir")); err != nil {
		t.Fatal(err)
	}
	start(nodes[0]) // before the Sentinels notice
	stagetest.Eventually(t, "another node is the master, and has what was written", func() bool {
		v, err := rdb.Get(ctx, "kept").Result()
		if err == redis.Nil {
			t.Fatal("an empty node became the master")
		}
		return err == nil && v == "yes"
	})
	haSettled(t, rdb, asked)
	if v, err := rdb.Get(ctx, "kept").Result(); err != nil || v != "yes" {
		t.Errorf("at the end: %q, %v", v, err)
	}
}

// haSettled waits until the master has two replicas, and the Sentinels know all.
func haSettled(t *testing.T, rdb *redis.Client, sentinels []string) {
	t.Helper()
	ctx := context.Background()
	stagetest.Eventually(t, "the master has two replicas, and the Sentinels know all", func() bool {
		info, err := rdb.Info(ctx, "replication").Result()
		if err != nil || strings.Count(info, "state=online") != 2 {
			return false
		}
		for _, addr := range sentinels {
			s := redis.NewSentinelClient(&redis.Options{Addr: addr})
			about, err := s.Master(ctx, "pipeline").Result()
			_ = s.Close()
			if err != nil || about["num-slaves"] != "2" || about["num-other-sentinels"] != "2" {
				return false
			}
		}
		return true
	})
}
