package milepostctl

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/services/milepostctl/doctor"
)

// TestCluster: on a Redis Cluster the tool shows and changes a pipeline as on one Redis, over all
// shards, also while a master is away.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := stagetest.ShardedOf(t, 3, false)
	o := c.Servers[0].Options()
	untouched(t, c, o)
	var mended atomic.Bool
	stop := running(t, o, func(string) error {
		if mended.Load() {
			return nil
		}
		return stage.Permanent(errRefused)
	})
	const n = 40
	ids := map[string]bool{}
	for range n {
		ids[strings.TrimSpace(must(t, o, "publish", event.RawInput, golden))] = true
	}
	list := func(args ...string) []letter { return deadLetters(t, o, args...) }
	stagetest.Eventually(t, "all are dead letters", func() bool { return len(list()) == n })
	all := list()
	for i, l := range all {
		if i > 0 && l.Entry[:13] < all[i-1].Entry[:13] || !ids[l.ID] {
			t.Errorf("dead letter %d is %+v after %+v; want the oldest first, each of an event that was published", i, l, all[max(0, i-1)])
		}
	}
	if got := list("--limit", "7"); fmt.Sprint(got) != fmt.Sprint(all[:7]) {
		t.Errorf("dead list --limit 7: %v, want %v", got, all[:7])
	}
	out := must(t, o, "status", "--sample", "0")
	if row := strings.Join(strings.Fields(strings.Split(out, "\n")[1]), " "); row != "distance raw_input running 0 0 - - 1 0 40" {
		t.Errorf("status: %q in\n%s", row, out)
	}
	if out = must(t, o, "status", "--sample", "0", "--shards"); strings.Count(out, "distance  raw_input") != 17 {
		t.Errorf("status --shards: %s; want one line, and 16 for the shards", out)
	}
	single(t, o, all[3].ID, all[3].Entry)
	mended.Store(true)
	must(t, o, "dead", "replay", event.RawInput, "--all", "--yes")
	stagetest.Eventually(t, "all are settled", func() bool {
		return strings.Contains(strings.Join(strings.Fields(must(t, o, "status", "--sample", "0")), " "), "running 0 0 - - 1 0 0")
	})
	stop()
	stagetest.Eventually(t, "nobody reads", func() bool {
		return runTool(t, o, "", "group", "skip", event.RawInput, "distance", "--yes").code == ExitOK
	})
	for range n {
		must(t, o, "publish", event.RawInput, golden)
	}
	if out = must(t, o, "group", "skip", event.RawInput, "distance", "--yes"); !strings.Contains(out, "skipped 40 entries") {
		t.Errorf("group skip: %s", out)
	}
	examined(t, c, o)
	c.Servers[2].Kill()
	s := runTool(t, o, "", "status", "--sample", "0", "--check")
	if s.code != ExitFindings || !strings.Contains(s.out, "! 5 shards of 16 away, and not counted here: ") || !strings.Contains(s.out, "\ndistance") {
		t.Errorf("status while one of three masters is away: %s; want the others' sums and the problem", s)
	}
	if s := runTool(t, o, "", "dead", "list"); s.code != ExitAway || !strings.Contains(s.err, "shard 1") || strings.Contains(s.err, "expected at") {
		t.Errorf("dead list while a master is away: %s; want a refusal that names the shard", s)
	}
	c.Servers[2].Start()
	c.Settled()
	must(t, o, "group", "retire", event.RawInput, "distance", "--yes")
	if s := runTool(t, o, "", "group", "retire", event.RawInput, "distance", "--yes"); s.code != ExitNotFound {
		t.Errorf("group retire, twice: %s", s)
	}
}

// untouched: status and doctor of a cluster without a pipeline write nothing.
func untouched(t *testing.T, c *stagetest.Sharded, o *redis.Options) {
	t.Helper()
	if s := runTool(t, o, "", "status"); s.code != ExitAway || !strings.Contains(s.err, "none has started here yet") || strings.Contains(s.err, "expected at") {
		t.Errorf("status of a cluster without a pipeline: %s", s)
	}
	if s := runTool(t, o, "", "doctor"); s.code != ExitOK || !strings.Contains(s.out, "16384 of 16384 covered") || !strings.Contains(s.out, "none has started here yet") {
		t.Errorf("doctor of a cluster without a pipeline: %s; want the nodes' settings all the same", s)
	}
	for _, s := range c.Servers {
		if n := s.Client().DBSize(t.Context()).Val(); n != 0 {
			t.Errorf("after status, a master has %d keys", n)
		}
	}
}

// single: one of 40 dead letters is found, shown, dropped, and imported again.
func single(t *testing.T, o *redis.Options, id, entry string) {
	t.Helper()
	if out := must(t, o, "find", id); !strings.Contains(out, "dead replay raw_input "+entry) {
		t.Errorf("find of a dead letter: %s; want the command that replays %s", out, entry)
	}
	if out := must(t, o, "dead", "show", event.RawInput, entry); !strings.Contains(out, id) {
		t.Errorf("dead show %s: %s; want event %s", entry, out, id)
	}
	bare, _, _ := strings.Cut(entry, "/")
	if s := runTool(t, o, "", "dead", "drop", event.RawInput, bare, "--yes"); s.code != ExitNotFound {
		t.Errorf("dead drop of an entry without its shard: %s", s)
	}
	kept := must(t, o, "dead", "export")
	must(t, o, "dead", "drop", event.RawInput, entry, "--yes")
	if got := must(t, o, "dead", "list", "-o", "json", "--id", id); got != "" {
		t.Errorf("after dead drop there is still %s", got)
	}
	if s := piped(t, o, kept, "dead", "import"); s.code != ExitOK || s.out != "imported 1 dead letter; 39 were there already\n" {
		t.Errorf("dead import: %s", s)
	}
}

// examined: doctor checks the slots and the settings of each node.
func examined(t *testing.T, c *stagetest.Sharded, o *redis.Options) {
	t.Helper()
	env := map[string]string{"REDIS_URL": "redis://" + o.Addr, "SHARDS": "16"}
	find := func(check, state, found string) {
		t.Helper()
		out := with(t, env, "doctor", "-o", "json").out
		if !slices.ContainsFunc(decoded[doctor.Finding](t, out), func(f doctor.Finding) bool {
			return f.Check == check && f.State == state && strings.Contains(f.Found, found)
		}) {
			t.Errorf("doctor does not find %s %s %q:\n%s", check, state, found, out)
		}
	}
	find("cluster slots", "ok", "16384 of 16384 covered by 3 masters")
	find("redis rights", "ok", "enough for web-api")
	find("shards", "ok", "16")
	env["SHARDS"] = "8"
	find("shards", "fail", "SHARDS is 8, but the pipeline has 16")
	find("slots can move", "ok", " entries; a move takes 0s and at most 512 MB")
	find("redis cluster-require-full-coverage", "ok", "no")
	rdb := c.Servers[0].Client()
	stagetest.OK(t, rdb.ClusterDelSlots(t.Context(), 1).Err())
	find("cluster slots", "fail", "16383 of 16384")
	stagetest.OK(t, rdb.ClusterAddSlots(t.Context(), 1).Err())
	const big = "{10}raw_input:dead" // of shard 0
	id := c.Client().XAdd(t.Context(), &redis.XAddArgs{Stream: big, Values: []string{"payload", strings.Repeat("x", 600<<10)}}).Val()
	for _, s := range c.Servers {
		s.Client().ConfigSet(t.Context(), "proto-max-bulk-len", "1mb")
	}
	find("slots can move", "warning", "the largest stream is "+big+" of shard 0")
	c.Client().XDel(t.Context(), big, id)
	for name, wrong := range map[string]string{"cluster-require-full-coverage": "yes", "cluster-node-timeout": "15000"} {
		rdb := c.Servers[1].Client()
		before := rdb.ConfigGet(t.Context(), name).Val()[name]
		stagetest.OK(t, rdb.ConfigSet(t.Context(), name, wrong).Err())
		find("redis "+name, "warning", c.Servers[1].Options().Addr+" has "+wrong)
		rdb.ConfigSet(t.Context(), name, before)
	}
}
