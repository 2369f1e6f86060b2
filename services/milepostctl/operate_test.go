package milepostctl

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/services/milepostctl/doctor"
)

// conf starts redis-server with one of the chart's files.
func conf(t *testing.T, name string) *stagetest.Server {
	t.Helper()
	path, err := filepath.Abs("../../charts/milepost/files/" + name)
	stagetest.OK(t, err)
	return stagetest.Real(t, "--include", path, "--bind", "127.0.0.1", "--dir", t.TempDir())
}

// findings runs doctor and returns each check's state, and all it said.
func findings(t *testing.T, env map[string]string, code int) (states map[string]string, all map[string]doctor.Finding) {
	t.Helper()
	s := with(t, env, "doctor", "-o", "json")
	if s.code != code {
		t.Fatalf("doctor: %s; want exit status %d", s, code)
	}
	states, all = map[string]string{}, map[string]doctor.Finding{}
	for _, f := range decoded[doctor.Finding](t, s.out) {
		if states[f.Check] != "" {
			t.Errorf("doctor says %s twice", f.Check)
		}
		if f.Found == "" || f.Means == "" || (f.State == doctor.Warning || f.State == doctor.Failed) && f.Change == "" {
			t.Errorf("doctor does not explain %+v", f)
		}
		states[f.Check], all[f.Check] = f.State, f
	}
	return states, all
}

// expect compares some states.
func expect(t *testing.T, what string, got map[string]string, all map[string]doctor.Finding, want map[string]string) {
	t.Helper()
	for check, state := range want {
		if got[check] != state {
			t.Errorf("%s: %s is %q, want %q: %+v", what, check, got[check], state, all[check])
		}
	}
}

// TestDoctor examines a Redis as the chart configures it, one that forbids questions, and the
// embedded one.
func TestDoctor(t *testing.T) {
	t.Run("broker.conf", func(t *testing.T) {
		t.Parallel()
		server := conf(t, "broker.conf")
		cache := conf(t, "cache.conf")
		env := map[string]string{"REDIS_URL": "redis://" + server.Addr, "CACHE_REDIS_URL": "redis://" + cache.Addr}
		running(t, server.Options(), func(string) error { return nil })
		stagetest.Eventually(t, "the channel is adopted", func() bool { return !strings.Contains(with(t, env, "status", "--sample", "0").out, "adopt") })
		states, all := findings(t, env, ExitOK)
		for check, state := range states {
			// How fast and how far off in time it is, is this machine's.
			if check != "mongo" && check != "redis answers" && check != "redis clock" && state != doctor.OK {
				t.Errorf("a Redis with broker.conf: %+v", all[check])
			}
		}
		expect(t, "broker.conf", states, all, map[string]string{
			"redis version": doctor.OK, "redis mode": doctor.OK, "redis role": doctor.OK, "redis appendonly": doctor.OK, "redis appendfsync": doctor.OK, "redis writes its file": doctor.OK,
			"redis maxmemory-policy": doctor.OK, "redis memory": doctor.OK, "redis pubsub buffers": doctor.OK, "redis clients": doctor.OK, "redis rights": doctor.OK,
			"cache maxmemory-policy": doctor.OK, "cache maxmemory": doctor.OK, "pipeline": doctor.OK, "dead letters": doctor.OK, "backlog": doctor.OK, "mongo": doctor.Unknown,
		})
		if all["redis mode"].Found != "standalone" {
			t.Errorf("redis mode: %+v", all["redis mode"])
		}
		if s := with(t, env, "doctor"); strings.Count(s.out, "To do:") != 1 {
			t.Errorf("doctor advises something beside naming the store:\n%s", s.out)
		}
		if s := with(t, env, "doctor", "--explain"); !strings.Contains(s.out, "ok: redis maxmemory-policy: noeviction\n  A policy that evicts") {
			t.Errorf("doctor --explain does not explain:\n%s", s.out)
		}
	})
	t.Run("forbidden", func(t *testing.T) {
		t.Parallel()
		server := stagetest.Real(t, stagetest.Durable...)
		c := server.Client()
		for user, rules := range map[string][]any{"noconfig": {"+@all", "-config"}, "noscripts": {"+@all", "-@scripting"}} {
			stagetest.OK(t, c.Do(t.Context(), append([]any{"ACL", "SETUSER", user, "on", ">geheim", "~*", "&*"}, rules...)...).Err())
		}
		states, all := findings(t, map[string]string{"REDIS_URL": "redis://noconfig:geheim@" + server.Addr}, ExitOK)
		expect(t, "CONFIG forbidden", states, all, map[string]string{
			"redis appendonly": doctor.OK, "redis appendfsync": doctor.Unknown, "redis maxmemory-policy": doctor.OK, "redis memory": doctor.Warning, "redis pubsub buffers": doctor.Unknown, "redis rights": doctor.OK,
		})
		if !strings.Contains(all["redis appendfsync"].Found, "NOPERM") {
			t.Errorf("doctor does not say why it cannot tell: %+v", all["redis appendfsync"])
		}
		states, all = findings(t, map[string]string{"REDIS_URL": "redis://noscripts:geheim@" + server.Addr}, ExitFindings)
		expect(t, "scripts forbidden", states, all, map[string]string{"redis rights": doctor.Failed, "pipeline": doctor.Unknown, "redis appendonly": doctor.OK})
	})
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		states, all := findings(t, map[string]string{"REDIS_URL": "redis://" + stagetest.Embedded(t).Addr}, ExitOK)
		expect(t, "the embedded Redis", states, all, map[string]string{"redis settings": doctor.Unknown, "redis rights": doctor.OK, "pipeline": doctor.Warning})
	})
}

// TestDoctorBad examines a Redis, a cache, a store and a pipeline that are all in a bad way.
func TestDoctorBad(t *testing.T) {
	t.Parallel()
	server := stagetest.Real(t, "--maxmemory-policy", "allkeys-lru", "--appendfsync", "everysec", "--client-output-buffer-limit", "pubsub 1mb 1mb 10")
	cache := stagetest.Real(t)
	o := server.Options()
	env := map[string]string{"REDIS_URL": "redis://" + server.Addr, "CACHE_REDIS_URL": "redis://" + cache.Addr, "MAX_DEAD": "2", "MAX_BACKLOG": "4",
		"MONGO_URL": fmt.Sprintf("mongodb://127.0.0.1:%d/?serverSelectionTimeoutMS=200", stagetest.FreePort(t))}
	stop := running(t, o, func(string) error { return stage.Permanent(errRefused) })
	for range 2 {
		must(t, o, "publish", event.RawInput, "x", "--force")
	}
	stagetest.Eventually(t, "two dead letters", func() bool {
		s := with(t, env, "dead", "list", "-o", "json")
		return strings.Count(s.out, "\n") == 2
	})
	stop()
	for range 4 {
		must(t, o, "publish", event.RawInput, golden)
	}
	states, all := findings(t, env, ExitFindings)
	expect(t, "a bad Redis", states, all, map[string]string{
		"redis appendonly": doctor.Failed, "redis appendfsync": doctor.Warning, "redis maxmemory-policy": doctor.Failed, "redis memory": doctor.Warning, "redis pubsub buffers": doctor.Warning,
		"cache maxmemory-policy": doctor.Warning, "cache maxmemory": doctor.Warning, "pipeline": doctor.Failed, "dead letters": doctor.Failed, "backlog": doctor.Failed,
		"mongo answers": doctor.Failed, "redis version": doctor.OK, "redis rights": doctor.OK,
	})
	if !strings.Contains(all["pipeline"].Found, "distance is not running: no process runs it; 4 events wait") {
		t.Errorf("doctor on a stage that nobody runs: %+v", all["pipeline"])
	}
}

// TestStatusSays: status and find of a stage that was never there, runs, and has stopped.
// TestStuckEvent of test/e2e goes on from here.
func TestStatusSays(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		if s := runTool(t, o, "", "status", "--sample", "0"); s.code != ExitOK || s.out != "no stage has ever run here\n" {
			t.Errorf("status of an empty Redis: %s", s)
		}
		stop := running(t, o, func(string) error { return nil })
		if s := runTool(t, o, "", "status", "--check"); s.code != ExitOK || !strings.Contains(s.out, "distance  raw_input  running  0        0        -       0/s   1          0        0\n") {
			t.Errorf("status of a running stage, with its rate: %s", s)
		}
		stop()
		id := strings.TrimSpace(must(t, o, "publish", event.RawInput, golden))
		if out := must(t, o, "--redis", "redis://"+o.Addr, "find", id); !strings.Contains(out, "raw_input  distance  waiting  ") ||
			!strings.Contains(out, "\n! distance is not running: no process runs it; 1 event waits, the oldest for ") ||
			!strings.HasSuffix(out, "\n  Start it: its events are kept.\n    milepostctl --redis redis://"+o.Addr+" group list raw_input\n") {
			t.Errorf("find of an event that waits: %s", out)
		}
		if s := runTool(t, o, "", "find", "01a1fcf2-c249-787c-93ac-7be164ea854e"); s.code != ExitNotFound || !strings.Contains(s.err, "it went all the way") {
			t.Errorf("find of an event that is nowhere: %s", s)
		}
	})
}

// TestDoctorReplicated examines Sentinels and all nodes, and says what a failover could lose.
func TestDoctorReplicated(t *testing.T) {
	t.Parallel()
	c := stagetest.Replicated(t, "--min-replicas-to-write", "2", "--min-replicas-max-lag", "3")
	env := map[string]string{"REDIS_URL": c.URL(), "WAIT_REPLICAS": "2"}
	states, all := findings(t, env, ExitOK)
	want := map[string]string{"replicas": doctor.OK, "sentinels": doctor.OK, "redis role": doctor.OK}
	for _, name := range []string{"replica-priority", "min-replicas-to-write", "min-replicas-max-lag", "repl-diskless-load", "appendonly", "appendfsync"} {
		want["redis "+name] = doctor.OK
	}
	expect(t, "a good replication", states, all, want)
	// Each wrong setting, on one replica alone.
	replica := c.Servers[1].Client()
	wrong := map[string]string{
		"replica-priority": "10", "min-replicas-to-write": "1", "min-replicas-max-lag": "10",
		"repl-diskless-load": "swapdb", "appendonly": "no", "appendfsync": "everysec",
	}
	for name, value := range wrong {
		stagetest.OK(t, replica.ConfigSet(t.Context(), name, value).Err())
	}
	_, all = findings(t, env, ExitFindings)
	for name, value := range wrong {
		f := all["redis "+name]
		if want := map[bool]string{true: doctor.Failed, false: doctor.Warning}[name == "appendonly"]; f.State != want || f.Found != c.Servers[1].Addr+" has "+value || !strings.Contains(f.Change, "CONFIG SET "+name+" ") {
			t.Errorf("%s %s on one replica: %+v", name, value, f)
		}
	}
	delete(env, "WAIT_REPLICAS")
	states, all = findings(t, env, ExitFindings)
	expect(t, "no WAIT_REPLICAS", states, all, map[string]string{"replicas": doctor.Warning, "redis min-replicas-to-write": doctor.Warning})
	// A replica with another password, one that lost its master, and a Sentinel that is away.
	stagetest.OK(t, replica.ConfigSet(t.Context(), "requirepass", "other").Err())
	c.Hold(c.Servers[2])
	c.Sentinels[2].Kill()
	env["WAIT_REPLICAS"] = "3"
	states, all = findings(t, env, ExitFindings)
	expect(t, "a bad replication", states, all, map[string]string{
		"replicas": doctor.Failed, "sentinels": doctor.Failed, "node " + c.Servers[1].Addr: doctor.Failed, "node " + c.Servers[2].Addr: doctor.Failed, "redis appendonly": doctor.OK,
	})
	if f := all["node "+c.Servers[1].Addr]; !strings.Contains(f.Change, "the same users and passwords") {
		t.Errorf("a replica with another password: %+v", f)
	}
	if at := all["sentinels"].Found; !strings.HasPrefix(at, c.Sentinels[2].Addr) {
		t.Errorf("the Sentinel that is away: %s", at)
	}
	env["REDIS_URL"] = strings.Replace(c.URL(), stagetest.MasterName, "other", 1)
	states, all = findings(t, env, ExitAway)
	expect(t, "an unknown master", states, all, map[string]string{"redis answers": doctor.Failed, "sentinels": doctor.Failed})
	env["REDIS_URL"] = "redis://" + c.Sentinels[0].Addr
	if _, all := findings(t, env, ExitAway); all["redis answers"].Found != "it is a Sentinel" || len(all) > 2 {
		t.Errorf("a Sentinel as a Redis: %+v", all)
	}
	if s := with(t, env, "status", "--sample", "0"); s.code != ExitAway || !strings.Contains(s.err, "this is a Sentinel; name its master") {
		t.Errorf("status of a Sentinel: %s; want what it is", s)
	}
	if f := all["redis answers"]; !strings.Contains(f.Found, `Sentinel knows no master "other"`) || !strings.Contains(f.Change, "master_name=") {
		t.Errorf("an unknown master: %+v", f)
	}
}
