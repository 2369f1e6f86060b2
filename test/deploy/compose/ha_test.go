package compose

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/test/process"
)

// TestReplicated: with docker-compose.ha.yml every program finds the master by three Sentinels,
// with docker-compose.cluster.yml the nodes of a Redis Cluster, and the new containers are as
// hardened as the others.
func TestReplicated(t *testing.T) {
	for file, tc := range map[string]struct{ nodes, sentinels, wait int }{
		"docker-compose.ha.yml":      {nodes: 3, sentinels: 3, wait: 1},
		"docker-compose.cluster.yml": {nodes: 6},
	} {
		t.Run(file, func(t *testing.T) {
			p := loadFiles(t, root, []string{"REDIS_PASSWORD=secret"}, []string{"load"}, "docker-compose.yml", file)
			hardened(t, p)
			for name, s := range ours(p) {
				var cfg config.Broker
				err := config.Load(func(v string) string {
					if value := s.Environment[v]; value != nil {
						return *value
					}
					return ""
				}, &cfg)
				addrs, password := append(cfg.Nodes(), cfg.Options().Addr), cfg.Options().Password
				if f := cfg.Failover(); f != nil {
					addrs, password = f.SentinelAddrs, f.Password
				}
				if err != nil || len(addrs) < 3 || (cfg.Failover() != nil) != (tc.sentinels > 0) || password != "secret" || cfg.WaitFor != tc.wait {
					t.Errorf("%s: asks %q, password %q, WAIT_REPLICAS %d, %v; want three of them, the password, %d", name, addrs, password, cfg.WaitFor, err, tc.wait)
				}
				for _, addr := range addrs {
					if host, _, _ := strings.Cut(addr, ":"); p.Services[host].Name == "" {
						t.Errorf("%s asks %s, which is no service", name, host)
					}
				}
			}
			addressed := 0
			for name, s := range p.Services {
				// A name would do until its container stops: from then on Sentinel
				// hangs in looking it up.
				me := s.Environment["ME"]
				if me == nil {
					continue
				}
				addressed++
				peers := strings.Fields(*s.Environment["NODES"])
				if more := s.Environment["SENTINELS"]; more != nil {
					peers = append(peers, strings.Fields(*more)...)
				}
				own := s.Networks["default"].Ipv4Address
				if host, _, _ := strings.Cut(*me, ":"); own == "" || host != own || !slices.Contains(peers, *me) || len(peers) != tc.nodes+tc.sentinels {
					t.Errorf("%s has the address %q and takes %s to be its own, of %q", name, own, *me, peers)
				}
				if !slices.ContainsFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool { return v.Target == "/data" }) {
					t.Errorf("%s keeps no data", name)
				}
			}
			if addressed != tc.nodes+tc.sentinels {
				t.Errorf("%d containers have an address, want %d", addressed, tc.nodes+tc.sentinels)
			}
		})
	}
}

// haPod is a node with its Sentinel, started as the chart starts them. All it knows is in dir.
type haPod struct {
	dir, addr, sentinel string
	both                []*process.Process
}

// haPods are three pods behind ha.sh.
type haPods struct {
	t    *testing.T
	pods []*haPod
	rdb  *redis.Client // to the master
}

func newHAPods(t *testing.T) *haPods {
	t.Helper()
	stagetest.Real(t).Kill() // skips or fails where there is no redis-server
	files, err := filepath.Abs(filepath.Join(root, "charts/milepost/files"))
	stagetest.OK(t, err)
	h := &haPods{t: t}
	var nodes, sentinels []string
	for range 3 {
		p := &haPod{addr: fmt.Sprintf("localhost:%d", stagetest.FreePort(t)), sentinel: fmt.Sprintf("localhost:%d", stagetest.FreePort(t)), dir: filepath.Join(t.TempDir(), "data")}
		h.pods, nodes, sentinels = append(h.pods, p), append(nodes, p.addr), append(sentinels, p.sentinel)
	}
	const password = `p"w`
	for _, p := range h.pods {
		for what, me := range map[string]string{"node": p.addr, "sentinel": p.sentinel} {
			x := process.New(t, what+" "+me, "/bin/sh", filepath.Join(files, "ha.sh"), what)
			x.Group, x.Dir = true, map[string]string{"node": p.dir, "sentinel": filepath.Join(p.dir, "sentinel")}[what]
			x.Env = append(x.Env, "ME="+me, "NODE_CONF="+filepath.Join(x.Dir, "node.conf"), "BROKER_CONF="+filepath.Join(files, "broker.conf"),
				"REDIS_PASSWORD="+password, "REDISCLI_AUTH="+password,
				"NODES="+strings.Join(nodes, " "), "SENTINELS="+strings.Join(sentinels, " "), "DOWN_AFTER=1000", "PATIENCE=5")
			p.both = append(p.both, x)
		}
	}
	h.rdb = redis.NewClient(config.Redis{
		RedisURL:      config.RedisURL("redis://" + sentinels[0] + "/0?master_name=pipeline&addr=" + sentinels[1] + "&addr=" + sentinels[2]),
		RedisPassword: password, SentinelPass: password,
	}.Options())
	t.Cleanup(func() { _ = h.rdb.Close() })
	return h
}

func (h *haPods) start(pods ...int) {
	for _, i := range pods {
		for _, x := range h.pods[i].both {
			stagetest.OK(h.t, os.MkdirAll(x.Dir, 0o755))
			x.Start()
		}
	}
}

// kill ends node and Sentinel of pods; with lost, their folder is gone, too.
func (h *haPods) kill(lost bool, pods ...int) {
	for _, i := range pods {
		for _, x := range h.pods[i].both {
			x.Kill()
		}
		if lost {
			stagetest.OK(h.t, os.RemoveAll(h.pods[i].dir))
		}
	}
}

// settled waits until two replicas follow the master and can replace it, and the Sentinels know
// that. It returns the master's number, and fails if that has not what was kept.
func (h *haPods) settled(when string) (master int) {
	h.t.Helper()
	ctx := h.t.Context()
	stagetest.Eventually(h.t, when+": two replicas follow the master, and all Sentinels know it", func() bool {
		info, err := h.rdb.Info(ctx, "replication").Result()
		if err != nil || strings.Count(info, "state=online") != 2 {
			return false
		}
		for _, p := range h.pods {
			s := redis.NewSentinelClient(&redis.Options{Addr: p.sentinel, Password: h.rdb.Options().Password})
			about, err := s.Master(ctx, "pipeline").Result()
			replicas, _ := s.Replicas(ctx, "pipeline").Result()
			_ = s.Close()
			if err != nil || about["num-other-sentinels"] != "2" || about["flags"] != "master" || about["down-after-milliseconds"] != "1000" || len(replicas) != 2 {
				return false
			}
			for _, r := range replicas {
				if r["flags"] != "slave" || r["master-link-status"] != "ok" || r["slave-priority"] != "100" {
					return false
				}
			}
			master = slices.IndexFunc(h.pods, func(p *haPod) bool { return p.addr == about["ip"]+":"+about["port"] })
		}
		return true
	})
	h.has(when)
	return master
}

// has fails if the master is not filled.
func (h *haPods) has(when string) {
	h.t.Helper()
	if v, err := h.rdb.Get(h.t.Context(), "kept").Result(); err != nil || v != "yes" {
		h.t.Fatalf("%s: the master has %q, %v; an empty node became the master", when, v, err)
	}
}

// TestHAScript: whatever restarts, with or without its volume, a node with an empty one never
// becomes the master, and all come together again.
func TestHAScript(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	h := newHAPods(t)
	// The first node may have the data of a broker that was alone. It waits for the others.
	old := newServer(t, "broker.conf")
	stagetest.OK(t, old.start("").Set(ctx, "kept", "yes", 0).Err())
	old.Kill()
	stagetest.OK(t, os.CopyFS(h.pods[0].dir, os.DirFS(old.Dir)))
	h.start(0, 1)
	stagetest.Eventually(t, "a node waits for the others", func() bool {
		s := redis.NewSentinelClient(&redis.Options{Addr: h.pods[0].sentinel, Password: h.rdb.Options().Password})
		defer s.Close()
		return s.Ping(ctx).Err() == nil
	})
	if _, err := os.Stat(filepath.Join(h.pods[0].dir, "filled")); err == nil {
		t.Error("the first node founds before all Sentinels have answered")
	}
	h.start(2)
	master := h.settled("first start")
	if master != 0 {
		t.Fatalf("node %d founded the pipeline, want 0", master)
	}

	replica := (master + 1) % 3
	h.kill(false, replica)
	h.start(replica)
	if now := h.settled("a replica restarts"); now != master {
		t.Errorf("a replica restarts: the master is %d, want %d still", now, master)
	}

	h.kill(false, master)
	stagetest.Eventually(t, "the killed master is replaced", func() bool {
		v, err := h.rdb.Get(ctx, "kept").Result()
		return err == nil && v == "yes"
	})
	h.start(master)
	now := h.settled("the old master comes back")
	if now == master {
		t.Errorf("the old master comes back: it is the master")
	}

	h.kill(true, now)
	h.start(now) // before the Sentinels notice
	if master = h.settled("the master comes back empty, at once"); master == now {
		t.Errorf("the empty node %d is the master", now)
	}

	h.kill(false, 0, 1, 2)
	h.start(0, 1, 2)
	if now = h.settled("all restart"); now != master {
		t.Errorf("all restart: the master is %d, want %d, which had time to come back", now, master)
	}

	// All stop; the master and a replica lose all, their Sentinels too.
	left := (now + 1) % 3
	h.kill(true, now, (now+2)%3)
	h.kill(false, left)
	h.start(0, 1, 2)
	h.settled("all restart, and only one replica has its volume")
}
