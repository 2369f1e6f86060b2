//go:build unix

package stage_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/redis/go-redis/v9"
)

// ghost reads n entries of "in" for the group "s" as a consumer that never settles them. Its
// liveness key lasts for alive; 0: it has none.
func ghost(t *testing.T, rdb *redis.Client, n int64, alive time.Duration) {
	t.Helper()
	if alive > 0 {
		stagetest.OK(t, rdb.Set(t.Context(), "consumer:s:ghost", "1", alive).Err())
	}
	in, err := rdb.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "s", Consumer: "ghost", Streams: []string{"in", ">"}, Count: n}).Result()
	if err != nil || len(in) != 1 || int64(len(in[0].Messages)) != n {
		t.Fatalf("the ghost read %v, %v; want %d entries", in, err, n)
	}
}

// crashed is a sink that also sums up the crashes of what it handles.
func (c *tally) crashed(sum *atomic.Int64) stage.Handler {
	return stage.Each(func(_ context.Context, e stage.Event[string]) (stage.Nothing, error) {
		sum.Add(int64(e.Crashes))
		c.add(e.ID, e.Body)
		return stage.Nothing{}, nil
	})
}

// A consumer whose connections are reset again and again takes over all the same: what counts is
// that Redis heard from it.
func TestTakeOverWhileConnectionsBreak(t *testing.T) {
	t.Parallel()
	o := stagetest.Real(t).Options()
	b := open(t, o, func(o *stage.Options) { o.Lease = 2 * time.Second })
	start(t, b, stage.Config{Name: "s", In: "in"}, (&tally{}).sink())()
	ids := publish(t, publisher(t, b, "in"), numbered("", 20)...)
	rdb := stagetest.Client(t, o)
	ghost(t, rdb, 20, 0)
	breaking, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		for breaking.Err() == nil {
			_ = rdb.ClientKillByFilter(breaking, "TYPE", "normal", "SKIPME", "yes").Err()
			time.Sleep(900 * time.Millisecond) // less than a lease
		}
	}()
	var got tally
	start(t, b, stage.Config{Name: "s", In: "in"}, got.sink())
	stagetest.Eventually(t, "the ghost's entries are handled", func() bool { return got.len() == 20 })
	got.once(t, ids)
}

// While Redis stands still for longer than a lease, nobody can renew. So nobody is declared gone
// for that, and what is taken over soon after counts as no crash.
func TestPauseOfRedisCondemnsNobody(t *testing.T) {
	t.Parallel()
	server := stagetest.Real(t)
	rdb := server.Client()
	busy, other := open(t, server.Options()), open(t, server.Options())
	entered, release := make(chan struct{}, 1), make(chan struct{})
	start(t, busy, stage.Config{Name: "s", In: "in", Prefetch: 1}, stage.Each(func(context.Context, stage.Event[string]) (stage.Nothing, error) {
		entered <- struct{}{}
		<-release
		return stage.Nothing{}, nil
	}))
	p := publisher(t, busy, "in")
	publish(t, p, "slow")
	<-entered
	ids := publish(t, p, "a", "b")
	ghost(t, rdb, 2, 1500*time.Millisecond)
	var got tally
	var crashes atomic.Int64
	start(t, other, stage.Config{Name: "s", In: "in"}, got.crashed(&crashes))
	stagetest.OK(t, syscall.Kill(server.PID(), syscall.SIGSTOP))
	time.Sleep(2500 * time.Millisecond) // longer than the lease, and than the ghost's key
	stagetest.OK(t, syscall.Kill(server.PID(), syscall.SIGCONT))
	stagetest.Eventually(t, "the ghost's entries are handled", func() bool { return got.len() >= 2 })
	got.once(t, ids)
	if n := figure(t, other, "stage_taken_over_total", "s") + figure(t, busy, "stage_taken_over_total", "s"); n != 1 || crashes.Load() != 0 {
		t.Errorf("taken over from %v consumers with %d crashes; want the ghost alone, and no crash", n, crashes.Load())
	}
	close(release)
	group(t, busy, "in", "s", "all is settled", settled)
	if got.len() != 2 {
		t.Errorf("the other consumer handled %d entries, want only the ghost's two", got.len())
	}
}

// In a full Redis, adoption waits for room and says so. That keeps nobody from taking over, nor
// from working on.
func TestAdoptionWaitsForRoom(t *testing.T) {
	t.Parallel()
	o := stagetest.Real(t).Options()
	b := open(t, o)
	rdb := stagetest.Client(t, o)
	var got tally
	start(t, b, stage.Config{Name: "s", In: "in"}, got.sink())()
	ids := publish(t, publisher(t, b, "in"), numbered("", 20)...)
	ghost(t, rdb, 20, 3*time.Second)
	start(t, b, stage.Config{Name: "s", In: "in"}, got.sink())
	stagetest.Eventually(t, "bare publishes are adopted", func() bool { return rdb.Exists(t.Context(), "in:adopter").Val() == 1 })
	stagetest.OK(t, rdb.ConfigSet(t.Context(), "maxmemory", "100kb").Err())
	stagetest.OK(t, rdb.Publish(t.Context(), "in", "bare").Err())
	group(t, b, "in", "s", "status says that adoption waits", func(g inspect.GroupStatus) bool {
		return slices.ContainsFunc(g.Consumers, func(c inspect.ConsumerStatus) bool {
			return c.Obstacle == "adoption" && strings.Contains(c.Why, "OOM")
		})
	})
	stagetest.Eventually(t, "the ghost's entries are handled", func() bool { return got.len() == 20 })
	got.once(t, ids)
	stagetest.OK(t, rdb.ConfigSet(t.Context(), "maxmemory", "0").Err())
	stagetest.Eventually(t, "the bare publish is adopted", func() bool { return got.len() == 21 })
}

// A right that only the tick needs, taken away while the stage runs: the stage says what is
// missing, and goes on when it is granted.
func TestTickLacksRights(t *testing.T) {
	t.Parallel()
	server := stagetest.Real(t)
	admin := server.Client()
	admin.Do(t.Context(), "ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all")
	o := server.Options()
	o.Username, o.Password = "app", "secret"
	b := open(t, o)
	var got tally
	s, _ := running(t, b, stage.Config{Name: "s", In: "in"}, got.sink())
	stagetest.Eventually(t, "it is ready", func() bool { return s.Ready() == nil })
	admin.Do(t.Context(), "ACL", "SETUSER", "app", "-zrangebyscore")
	stagetest.Eventually(t, "it says what is missing", func() bool {
		err := s.Ready()
		return err != nil && strings.Contains(err.Error(), "ZRANGEBYSCORE")
	})
	admin.Do(t.Context(), "ACL", "SETUSER", "app", "+zrangebyscore")
	stagetest.Eventually(t, "it goes on", func() bool { return s.Ready() == nil })
}

// An idle stage makes at most 3 round trips a second: a read, a tick, and now and then the ping of
// its subscription. So the four services stay under 12. Commands in scripts are none.
func TestIdleRoundTrips(t *testing.T) {
	t.Parallel()
	server := stagetest.Real(t)
	rdb := server.Client()
	b := open(t, server.Options(), func(o *stage.Options) { o.Lease = 3 * time.Second })
	start(t, b, stage.Config{Name: "s", In: "in"}, (&tally{}).sink())
	stagetest.Eventually(t, "it adopts", func() bool { return rdb.Exists(t.Context(), "in:adopter").Val() == 1 })
	trips := func() (n int64, at time.Time) { // of commands that scripts do not run
		for name, stats := range rdb.InfoMap(t.Context(), "commandstats").Val()["Commandstats"] {
			var calls int64
			if _, err := fmt.Sscanf(stats, "calls=%d", &calls); err != nil {
				t.Fatalf("%s: %q", name, stats)
			}
			if slices.Contains([]string{"cmdstat_evalsha", "cmdstat_eval", "cmdstat_xreadgroup", "cmdstat_ping", "cmdstat_subscribe", "cmdstat_client|id"}, name) {
				n += calls
			}
		}
		return n, rdb.Time(t.Context()).Val()
	}
	before, since := trips()
	var n int64
	var d time.Duration
	stagetest.Eventually(t, "ten seconds have passed", func() bool {
		time.Sleep(time.Second)
		now, at := trips()
		n, d = now-before, at.Sub(since)
		return d > 10*time.Second
	})
	if most := 3*d.Seconds() + 3; float64(n) > most || n < 3 {
		t.Errorf("%d round trips in %s, want 3 to %.0f", n, d, most)
	}
	t.Logf("%d round trips in %s", n, d)
}
