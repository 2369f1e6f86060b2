package compose

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/test/process"
)

// clusterNode is a node, started as docker-compose.cluster.yml starts it. All it knows is in dir.
type clusterNode struct {
	*process.Process
	addr string
}

// ready asks its script whether it is ready.
func (n *clusterNode) ready() bool {
	_, code := process.Run(n.T, n.Dir, n.Env, n.Path, n.Args[0], "ready")
	return code == 0
}

// TestClusterScript: the six nodes become one cluster once, with the settings that doctor wants. It
// comes back with its data after all were killed, and a killed master comes back as a replica.
func TestClusterScript(t *testing.T) {
	for name, password := range map[string]string{"password": `p"w`, "no password": ""} {
		t.Run(name, func(t *testing.T) { clusterScript(t, password) })
	}
}

// sixNodes are the nodes of docker-compose.cluster.yml, not started, and their addresses.
func sixNodes(t *testing.T, password string) (nodes []*clusterNode, addrs []string) {
	files, err := filepath.Abs(filepath.Join(root, "charts/milepost/files"))
	stagetest.OK(t, err)
	script, err := filepath.Abs(filepath.Join(root, "deploy/compose/cluster.sh"))
	stagetest.OK(t, err)
	for range 6 {
		n := &clusterNode{addr: process.Addr(t)}
		n.Process = process.New(t, n.addr, "/bin/sh", script, "node")
		n.Group = true
		nodes, addrs = append(nodes, n), append(addrs, n.addr)
	}
	for _, n := range nodes {
		n.Env = append(n.Env, "ME="+n.addr, "NODES="+strings.Join(addrs, " "), "REDIS_PASSWORD="+password, "REDISCLI_AUTH="+password,
			"BROKER_CONF="+filepath.Join(files, "broker.conf"), "NODE_CONF="+filepath.Join(n.Dir, "node.conf"), "REDIS_SH="+filepath.Join(files, "redis.sh"))
	}
	return nodes, addrs
}

func clusterScript(t *testing.T, password string) {
	t.Parallel()
	ctx := t.Context()
	stagetest.Real(t).Kill() // skips or fails where there is no redis-server
	nodes, addrs := sixNodes(t, password)
	open := func() *redis.ClusterClient {
		return redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, Password: password})
	}
	rdb := open()
	t.Cleanup(func() { _ = rdb.Close() })
	settled := func(when string, masters ...string) {
		t.Helper()
		var slots []redis.ClusterSlot
		stagetest.Eventually(t, when+": all six are ready", func() bool {
			if slices.ContainsFunc(nodes, func(n *clusterNode) bool { return !n.ready() }) {
				return false
			}
			var err error
			//lint:ignore SA1019 as the programs do
			slots, err = rdb.ClusterSlots(ctx).Result()
			return err == nil && len(slots) == 3 && !slices.ContainsFunc(slots, func(r redis.ClusterSlot) bool { return len(r.Nodes) != 2 })
		})
		for _, r := range slots {
			if len(masters) > 0 && !slices.Contains(masters, r.Nodes[0].Addr) {
				t.Errorf("%s: %+v, want one of the masters %q", when, r, masters)
			}
		}
	}
	kept := func(when string) {
		t.Helper()
		stagetest.Eventually(t, when+": every key is there", func() bool {
			rdb := open() // an old one may ask the killed master for a minute
			defer rdb.Close()
			for i := range 50 {
				if v, err := rdb.Get(ctx, fmt.Sprint("key", i)).Result(); err != nil || v != "kept" {
					return false
				}
			}
			return true
		})
	}
	for _, n := range slices.Backward(nodes) {
		if n.ready() {
			t.Error("a node is ready before there is a cluster")
		}
		n.Start()
	}
	settled("first start", addrs[:3]...)
	for i := range 50 {
		stagetest.OK(t, rdb.Set(ctx, fmt.Sprint("key", i), "kept", 0).Err())
	}
	if err := rdb.HSet(ctx, "pipeline", "shards", 16).Err(); err != nil { // as a program's start does
		t.Fatal(err)
	}
	examined(t, password, addrs)
	if password == "" {
		return
	}

	for _, n := range nodes {
		n.Kill()
	}
	for _, n := range nodes {
		n.Start()
	}
	settled("all restart")
	kept("all restart")

	nodes[0].Kill()
	kept("a master is replaced")
	nodes[0].Start()
	settled("the old master comes back")
	kept("the old master comes back")
}

// examined: doctor finds nothing about the nodes but that WAIT_REPLICAS is 0.
func examined(t *testing.T, password string, addrs []string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(build(t), "milepostctl"), "doctor", "-o", "json")
	cmd.Env = append(os.Environ(), "REDIS_URL=redis://"+addrs[0]+"/0?addr="+addrs[1], "REDIS_PASSWORD="+password, "WAIT_REPLICAS=1")
	out, _ := cmd.Output() // it fails because no stage has run
	found := 0
	for line := range strings.Lines(string(out)) {
		var f struct{ Check, State, Found string }
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("doctor: %v in %q", err, line)
		}
		settings := strings.HasPrefix(f.Check, "redis ") && f.Check != "redis answers" && f.Check != "redis clock" // how fast they are is this machine's
		if settings || strings.HasPrefix(f.Check, "cluster") || strings.HasPrefix(f.Check, "node ") || f.Check == "replicas" {
			found++
			if f.State != "ok" {
				t.Errorf("doctor: %s", line)
			}
		}
	}
	if found < 18 {
		t.Errorf("doctor made %d checks of the nodes, want 18\n%s", found, out)
	}
}
