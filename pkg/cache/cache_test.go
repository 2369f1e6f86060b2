package cache_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/cache"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

var errBroken = errors.New("broken")

// open opens a client that waits for a slow machine, unless o says how long it waits.
func open(t testing.TB, o *redis.Options) *cache.Client {
	t.Helper()
	o.ReadTimeout = cmp.Or(o.ReadTimeout, time.Minute)
	c := cache.Open(o, "", slog.New(slog.NewTextHandler(io.Discard, nil)))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func plain(t testing.TB, o *redis.Options) *redis.Client {
	t.Helper()
	return stagetest.Client(t, &redis.Options{Addr: o.Addr})
}

// source counts loads and answers each with its number, unless fails is set.
type source struct {
	loads atomic.Int64
	fails atomic.Pointer[error]
}

func (s *source) load(context.Context) (int64, error) {
	n := s.loads.Add(1)
	if err := s.fails.Load(); err != nil {
		return 0, *err
	}
	return n, nil
}

func (s *source) fail(err error) { s.fails.Store(&err) }

// get is Get, whose error ends the test.
func get(t *testing.T, c *cache.Cache[int64], s *source) cache.Result[int64] {
	t.Helper()
	r, err := c.Get(t.Context(), "k", s.load)
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	return r
}

// requests are the counts of milepost_cache_requests_total by outcome.
func requests(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	stagetest.OK(t, r.Register(c))
	families, err := r.Gather()
	stagetest.OK(t, err)
	counts := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "milepost_cache_requests_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "outcome" {
					counts[l.GetValue()] = m.GetCounter().GetValue()
				}
			}
		}
	}
	return counts
}

func TestHit(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		var s source
		c := cache.New[int64](open(t, o), cache.Options{Name: "t"})
		if r := get(t, c, &s); r.Value != 1 || r.Cached || r.Stale || time.Since(r.At) > time.Minute {
			t.Errorf("first Get = %+v; want 1, loaded", r)
		}
		first := get(t, c, &s)
		if first.Value != 1 || !first.Cached || first.Stale {
			t.Errorf("second Get = %+v; want 1 from the cache", first)
		}
		other := cache.New[int64](open(t, o), cache.Options{Name: "t"})
		if r := get(t, other, &s); r != first {
			t.Errorf("Get of another process = %+v, want %+v", r, first)
		}
		stagetest.OK(t, c.Drop(t.Context(), "k"))
		if r := get(t, other, &s); r.Value != 2 || r.Cached {
			t.Errorf("Get after Drop = %+v; want 2, loaded", r)
		}
		if got := requests(t, c); got["hit"] != 1 || got["miss"] != 1 || len(got) != 2 {
			t.Errorf("requests by outcome: %v; want a miss and a hit", got)
		}
		r := prometheus.NewPedanticRegistry()
		if err := errors.Join(r.Register(c), r.Register(cache.New[int64](open(t, o), cache.Options{Name: "u"}))); err != nil {
			t.Error(err)
		}
		if _, err := r.Gather(); err != nil {
			t.Error(err)
		}
	})
}

func TestExpiry(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		var s source
		c := cache.New[int64](open(t, o), cache.Options{Name: "t", TTL: 50 * time.Millisecond, Stale: time.Hour, Pause: time.Millisecond})
		get(t, c, &s)
		stagetest.Eventually(t, "an expired entry is loaded anew", func() bool { return get(t, c, &s).Value > 1 })
		s.fail(errBroken)
		stagetest.Eventually(t, "an old value is served, marked", func() bool {
			r := get(t, c, &s)
			return r.Stale && r.Cached && r.Value > 1
		})
		s.fails.Store(nil)
		before := s.loads.Load()
		stagetest.Eventually(t, "it is loaded again", func() bool { return get(t, c, &s).Value > before })
	})
}

// A load that hangs does not keep callers from an old value; what it brings in the end is kept.
func TestSlowLoad(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		var s source
		c := cache.New[int64](open(t, o), cache.Options{Name: "t", TTL: 50 * time.Millisecond, Stale: time.Hour, Slow: time.Millisecond})
		get(t, c, &s)
		release := make(chan struct{})
		stagetest.Eventually(t, "the old value is served", func() bool {
			r, err := c.Get(t.Context(), "k", func(context.Context) (int64, error) {
				<-release
				return 100, nil
			})
			return err == nil && r.Stale && r.Value < 100
		})
		close(release)
		stagetest.Eventually(t, "the new value is there", func() bool {
			r, err := c.Get(t.Context(), "k", func(context.Context) (int64, error) { return 100, nil })
			return err == nil && !r.Stale && r.Value == 100
		})
	})
}

// With 100 callers in each of two processes, a missing value is loaded once.
func TestOneLoad(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		var loads atomic.Int64
		var begun sync.WaitGroup
		begun.Add(200)
		release := make(chan struct{})
		load := func(context.Context) (int64, error) {
			loads.Add(1)
			<-release
			return 7, nil
		}
		var done sync.WaitGroup
		for range 2 {
			c := cache.New[int64](open(t, o), cache.Options{Name: "t", Timeout: time.Minute})
			for range 100 {
				done.Go(func() {
					begun.Done()
					if r, err := c.Get(t.Context(), "k", load); err != nil || r.Value != 7 {
						t.Errorf("Get = %+v, %v; want 7", r, err)
					}
				})
			}
		}
		begun.Wait()
		rdb := plain(t, o)
		stagetest.Eventually(t, "somebody loads", func() bool { return loads.Load() > 0 && rdb.Exists(t.Context(), "cache:t:k#lock").Val() == 1 })
		close(release)
		done.Wait()
		if n := loads.Load(); n != 1 {
			t.Errorf("200 callers in two processes caused %d loads, want 1", n)
		}
	})
}

func TestMissing(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		var s source
		s.fail(fmt.Errorf("atlantis: %w", cache.ErrMissing))
		c := cache.New[int64](open(t, o), cache.Options{Name: "t", Missing: time.Hour, TTL: time.Hour, Stale: time.Hour})
		for range 3 {
			if _, err := c.Get(t.Context(), "k", s.load); !errors.Is(err, cache.ErrMissing) {
				t.Errorf("Get = %v, want ErrMissing", err)
			}
		}
		if n := s.loads.Load(); n != 1 {
			t.Errorf("3 Gets of nothing caused %d loads, want 1", n)
		}
		c = cache.New[int64](open(t, o), cache.Options{Name: "u", Missing: 100 * time.Millisecond, TTL: time.Hour, Stale: time.Hour})
		if _, err := c.Get(t.Context(), "k", s.load); !errors.Is(err, cache.ErrMissing) {
			t.Errorf("Get = %v, want ErrMissing", err)
		}
		s.fails.Store(nil)
		stagetest.Eventually(t, "it is looked for again", func() bool {
			r, err := c.Get(t.Context(), "k", s.load)
			return err == nil && r.Value > 1
		})
	})
}

// A failed load is not repeated at once, here or in another process.
func TestPause(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		var s source
		s.fail(errBroken)
		options := cache.Options{Name: "t", Pause: time.Hour}
		c, other := cache.New[int64](open(t, o), options), cache.New[int64](open(t, o), options)
		if _, err := c.Get(t.Context(), "k", s.load); !errors.Is(err, errBroken) {
			t.Errorf("Get = %v, want %v", err, errBroken)
		}
		for _, c := range []*cache.Cache[int64]{c, other} {
			var failed *cache.FailedError
			if _, err := c.Get(t.Context(), "k", s.load); !errors.As(err, &failed) || failed.Why != "broken" {
				t.Errorf("Get a moment later = %v; want a FailedError of broken", err)
			}
		}
		if n := s.loads.Load(); n != 1 {
			t.Errorf("%d loads, want 1", n)
		}
	})
}

func TestCorrupt(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		rdb := plain(t, o)
		for _, text := range []string{"{", "null", "{}", `{"value":"text","at":1,"until":9999999999999}`, `{"missing":false,"until":9999999999999}`,
			`{"value":3,"missing":true,"until":9999999999999}`, "\x00\xff"} {
			var s source
			c := cache.New[int64](open(t, o), cache.Options{Name: "t"})
			stagetest.OK(t, rdb.Set(t.Context(), "cache:t:k", text, time.Hour).Err())
			if r := get(t, c, &s); r.Value != 1 || r.Cached {
				t.Errorf("Get with %q in its place = %+v; want it loaded", text, r)
			}
			if r := get(t, c, &s); r.Value != 1 || !r.Cached {
				t.Errorf("Get after %q = %+v; want it mended", text, r)
			}
		}
	})
}

// A Redis that takes no writes costs loads and nothing else.
func TestRedisRefuses(t *testing.T) {
	o := stagetest.Real(t, "--maxmemory", "1", "--maxmemory-policy", "noeviction").Options()
	c := cache.New[int64](open(t, o), cache.Options{Name: "t"})
	var s source
	for n := range int64(3) {
		if r := get(t, c, &s); r.Value != n+1 {
			t.Errorf("Get = %+v, want %d", r, n+1)
		}
	}
}

// A Redis that takes connections and never answers costs one time limit, not one a call.
func TestHanging(t *testing.T) {
	server := stagetest.Real(t)
	o := server.Options()
	o.ReadTimeout = 500 * time.Millisecond
	client := open(t, o)
	c := cache.New[int64](client, cache.Options{Name: "t"})
	stagetest.OK(t, plain(t, server.Options()).Do(t.Context(), "CLIENT", "PAUSE", "60000").Err())
	var s source
	get(t, c, &s)
	if err := client.Ping(t.Context()); !errors.Is(err, cache.ErrAway) {
		t.Errorf("Ping of a Redis that hangs: %v, want ErrAway", err)
	}
	get(t, c, &s)
	if got := requests(t, c); got["away"] != 2 || len(got) != 1 {
		t.Errorf("requests by outcome: %v; want 2 away", got)
	}
}

// The process that held the lock was killed: when the lock has ended, another one loads. The lock
// of a load outlives it.
func TestLoaderKilled(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		stagetest.OK(t, plain(t, o).Set(t.Context(), "cache:t:k#lock", "token of the dead", 300*time.Millisecond).Err())
		var s source
		c := cache.New[int64](open(t, o), cache.Options{Name: "t"})
		if r := get(t, c, &s); r.Value != 1 {
			t.Errorf("Get = %+v, want 1", r)
		}
		if r := get(t, c, &s); !r.Cached {
			t.Errorf("Get = %+v; want it kept", r)
		}
		_, err := c.Get(t.Context(), "other", func(ctx context.Context) (int64, error) {
			end, _ := ctx.Deadline()
			if lock := plain(t, o).PTTL(ctx, "cache:t:other#lock").Val(); lock < time.Until(end) {
				t.Errorf("the lock of a load lives for %s more, the load has until %s", lock, end)
			}
			return 1, nil
		})
		stagetest.OK(t, err)
	})
}

// Waiting for another process ends with Options.Timeout, and is no sign that Redis is away.
func TestWaitEnds(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		stagetest.OK(t, plain(t, o).Set(t.Context(), "cache:t:locked#lock", "another process", time.Hour).Err())
		var s, waiting source
		client := open(t, o)
		c := cache.New[int64](client, cache.Options{Name: "t"})
		get(t, c, &s)
		short := cache.New[int64](client, cache.Options{Name: "t", Timeout: 10 * time.Millisecond})
		for range 20 {
			if r, err := short.Get(t.Context(), "locked", waiting.load); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Get under a foreign lock = %+v, %v; want a deadline", r, err)
			}
			if r := get(t, c, &s); !r.Cached {
				t.Error("after it, a cached key is loaded")
			}
		}
		if n := waiting.loads.Load(); n != 0 {
			t.Errorf("%d loads under a foreign lock", n)
		}
	})
}

// The end of a caller's context is that caller's error, and is no sign that Redis is away.
func TestCallersDeadline(t *testing.T) {
	server := stagetest.Real(t)
	client, admin := open(t, server.Options()), plain(t, server.Options())
	c := cache.New[int64](client, cache.Options{Name: "t"})
	var s source
	get(t, c, &s)
	drop := func(ctx context.Context) error { return c.Drop(ctx, "other") }
	for _, tc := range []struct {
		name  string
		after time.Duration // the deadline
		call  func(context.Context) error
	}{
		{"Ping", -time.Second, client.Ping},
		{"Drop", -time.Second, drop},
		{"Get", -time.Second, func(ctx context.Context) error { _, err := c.Get(ctx, "k", s.load); return err }},
		{"Drop that Redis does not answer", 20 * time.Millisecond, drop},
	} {
		stagetest.OK(t, admin.Do(t.Context(), "CLIENT", "PAUSE", "60000", "WRITE").Err())
		ctx, cancel := context.WithTimeout(t.Context(), tc.after)
		if err := tc.call(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, cache.ErrAway) {
			t.Errorf("%s: %v, want the caller's deadline", tc.name, err)
		}
		cancel()
		stagetest.OK(t, admin.Do(t.Context(), "CLIENT", "UNPAUSE").Err())
		for range 5 {
			if r := get(t, c, &s); !r.Cached {
				t.Errorf("a Get after %s is loaded, want it from the cache", tc.name)
			}
		}
	}
}

// A caller who leaves does not take the value from those who stay.
func TestCallerLeaves(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		c := cache.New[int64](open(t, o), cache.Options{Name: "t"})
		leaving, leave := context.WithCancel(t.Context())
		release := make(chan struct{})
		_, err := c.Get(leaving, "k", func(ctx context.Context) (int64, error) {
			leave()
			<-release
			return 1, ctx.Err()
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Get of who left: %v", err)
		}
		close(release)
		var s source
		s.loads.Store(10)
		if r := get(t, c, &s); r.Value != 1 {
			t.Errorf("Get of who stays = %+v, want 1", r)
		}
	})
}

func TestPanic(t *testing.T) {
	c := cache.New[int64](open(t, stagetest.Embedded(t)), cache.Options{Name: "t"})
	if _, err := c.Get(t.Context(), "k", func(context.Context) (int64, error) { panic("x") }); err == nil {
		t.Error("Get of a load that panics: no error")
	}
}

// Entries that are made together do not end together.
func TestJitter(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		rdb := plain(t, o)
		c := cache.New[int64](open(t, o), cache.Options{Name: "t", TTL: time.Hour, Jitter: 0.2, Stale: time.Hour})
		var s source
		lo, hi := 2*time.Hour, time.Duration(0)
		for i := range 100 {
			key := fmt.Sprint(i)
			if _, err := c.Get(t.Context(), key, s.load); err != nil {
				t.Fatal(err)
			}
			ttl := rdb.PTTL(t.Context(), "cache:t:"+key).Val()
			lo, hi = min(lo, ttl), max(hi, ttl)
		}
		if lo < 107*time.Minute || hi > 2*time.Hour || hi-lo < 5*time.Minute {
			t.Errorf("entries are kept for %s to %s; want them spread over 1h48m to 2h", lo, hi)
		}
	})
}
