package stage_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/redis/go-redis/v9"
)

const hopPayload = `{"email":"someone.or.other@example.com","lat":"40.7128","long":"-74.0060"}`

// fill puts n events into the channel as the edge does, before anyone reads.
func fill(b *testing.B, rdb *redis.Client, channel string, n int) {
	b.Helper()
	for i := 0; i < n; {
		p := rdb.Pipeline()
		for j := 0; j < 1000 && i < n; j++ {
			p.XAdd(b.Context(), &redis.XAddArgs{Stream: channel, Values: []any{"payload", hopPayload, "id", fmt.Sprintf("01890000-0000-7000-8000-%012d", i), "at", "1700000000000"}})
			i++
		}
		if _, err := p.Exec(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// replicatedHop moves n events with replicas of a stage, each with so many workers. The handler
// waits for work, as for a store, and forwards the event as it is.
func replicatedHop(b *testing.B, o *redis.Options, n, replicas, workers int, work time.Duration) time.Duration {
	b.Helper()
	var seen atomic.Int64
	all := make(chan struct{})
	stages := make([]*stage.Stage, replicas)
	for i := range stages {
		broker, err := stage.Open(stage.Options{Redis: o, Log: slog.New(slog.DiscardHandler), MaxBacklog: 10 * n})
		stagetest.OK(b, err)
		defer broker.Close()
		stages[i], err = broker.New(stage.Config{Name: "hop", In: "in", Out: []stage.Output{{Channel: "out"}}, NoAdopt: true, Workers: workers},
			stage.Each(func(_ context.Context, e stage.Event[[]byte]) ([]byte, error) {
				if work > 0 {
					time.Sleep(work)
				}
				if seen.Add(1) == int64(n) {
					close(all)
				}
				return e.Body, nil
			}))
		stagetest.OK(b, err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, replicas)
	start := time.Now()
	for _, s := range stages {
		go func() { ended <- s.Run(ctx) }()
	}
	<-all
	cancel()
	for range stages {
		stagetest.OK(b, <-ended)
	}
	return time.Since(start)
}

// BenchmarkHop compares one hop of a stage with a bare pipelined client on the same server, in
// turns; the median of each.
func BenchmarkHop(b *testing.B) {
	for _, c := range []struct {
		name string
		args []string
		n    int
	}{
		{"memory", nil, 100_000},
		{"appendfsync=always", stagetest.Durable, 50_000},
	} {
		b.Run(c.name, func(b *testing.B) {
			srv := stagetest.Real(b, c.args...)
			rdb := srv.Client()
			var bare, staged []float64
			for range b.N {
				for range 3 {
					for _, side := range []string{"bare", "stage"} {
						rdb.FlushAll(b.Context())
						fill(b, rdb, "in", c.n)
						if side == "bare" {
							bare = append(bare, float64(c.n)/stagetest.BareHop(b, rdb, "in", "out", c.n).Seconds())
						} else {
							staged = append(staged, float64(c.n)/replicatedHop(b, srv.Options(), c.n, 1, 2, 0).Seconds())
						}
						if got := rdb.XLen(b.Context(), "out").Val(); got != int64(c.n) {
							b.Fatalf("%s: %d forwarded, want %d", side, got, c.n)
						}
					}
				}
			}
			slices.Sort(bare)
			slices.Sort(staged)
			x, y := bare[len(bare)/2], staged[len(staged)/2]
			b.ReportMetric(x, "bare-events/s")
			b.ReportMetric(y, "stage-events/s")
			b.ReportMetric(y/x, "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkBacklog drains backlogs of different sizes: the rate must not fall, nor the stage's
// memory grow, with the size. The time includes the stage's start and its end, which is most of it
// for 1,000 events.
func BenchmarkBacklog(b *testing.B) {
	srv := stagetest.Real(b)
	rdb := srv.Client()
	for _, n := range []int{1_000, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("events=%d", n), func(b *testing.B) {
			for range b.N {
				rates := make([]float64, max(1, min(5, 100_000/n))) // short ones again and again: the median
				heap, stop := watchHeap()
				for i := range rates {
					rdb.FlushAll(b.Context())
					fill(b, rdb, "in", n)
					rates[i] = float64(n) / replicatedHop(b, srv.Options(), n, 1, 2, 0).Seconds()
				}
				stop()
				slices.Sort(rates)
				b.ReportMetric(rates[len(rates)/2], "events/s")
				b.ReportMetric(float64(heap.Load())/(1<<20), "heap-MB")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkReplicas drains one backlog with 1, 2 and 4 replicas of a stage: one that has nothing to
// do but forward, which ends at the cores and at Redis, and one whose handler waits 1 ms, which
// ends at its workers.
func BenchmarkReplicas(b *testing.B) {
	srv := stagetest.Real(b)
	rdb := srv.Client()
	for _, c := range []struct {
		name string
		work time.Duration
		n    int
	}{{"forwarding", 0, 100_000}, {"waiting", time.Millisecond, 20_000}} {
		for _, replicas := range []int{1, 2, 4} {
			b.Run(fmt.Sprintf("%s/replicas=%d", c.name, replicas), func(b *testing.B) {
				for range b.N {
					rates := make([]float64, 3)
					for i := range rates {
						rdb.FlushAll(b.Context())
						fill(b, rdb, "in", c.n)
						rates[i] = float64(c.n) / replicatedHop(b, srv.Options(), c.n, replicas, 4, c.work).Seconds()
						if got := rdb.XLen(b.Context(), "out").Val(); got != int64(c.n) {
							b.Fatalf("%d forwarded by %d replicas, want %d", got, replicas, c.n)
						}
					}
					slices.Sort(rates)
					b.ReportMetric(rates[1], "events/s")
				}
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// watchHeap notes the largest heap in use until stop.
func watchHeap() (most *atomic.Uint64, stop func()) {
	most = &atomic.Uint64{}
	end, ended := make(chan struct{}), make(chan struct{})
	runtime.GC()
	go func() {
		defer close(ended)
		t := time.NewTicker(20 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-end:
				return
			case <-t.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most.Store(max(most.Load(), m.HeapInuse))
			}
		}
	}()
	return most, func() { close(end); <-ended }
}

// BenchmarkPublish is the edge: concurrent publishes that share round trips.
func BenchmarkPublish(b *testing.B) {
	for _, clients := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			srv := stagetest.Real(b)
			broker, err := stage.Open(stage.Options{Redis: srv.Options(), Log: slog.New(slog.DiscardHandler), MaxBacklog: 100_000_000})
			stagetest.OK(b, err)
			defer broker.Close()
			p := broker.Publisher("edge", "in")
			defer p.Close()
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := p.Publish(b.Context(), stage.Submission{Body: hopPayload}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkCopied publishes 100 times a second, in turns without and with WaitReplicas 1, over a
// master with one replica: what waiting for the replica costs at the median.
func BenchmarkCopied(b *testing.B) {
	master := stagetest.Real(b, stagetest.Durable...)
	host, port, _ := strings.Cut(master.Addr, ":")
	stagetest.Real(b, append([]string{"--replicaof", host, port}, stagetest.Durable...)...)
	var publishers [2]*stage.Publisher
	for n := range publishers {
		broker := open(b, master.Options(), func(o *stage.Options) { o.WaitReplicas = n })
		stagetest.Eventually(b, "the replica follows", func() bool { return broker.Ping(b.Context()) == nil })
		publishers[n] = broker.Publisher(fmt.Sprint("edge", n), "in")
		defer publishers[n].Close()
	}
	var took [2][]float64
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range b.N {
		for i := range 1000 {
			<-tick.C
			start := time.Now()
			if _, err := publishers[i%2].Publish(b.Context(), stage.Submission{Body: hopPayload}); err != nil {
				b.Fatal(err)
			}
			took[i%2] = append(took[i%2], float64(time.Since(start))/float64(time.Millisecond))
		}
	}
	for n := range took {
		slices.Sort(took[n])
		b.ReportMetric(took[n][len(took[n])/2], fmt.Sprintf("p50-ms-%d-replicas", n))
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkShards has a publisher and two stages move events over a single Redis and over a cluster
// of three masters, without and with one ordinary subscriber: Redis' CPU for each event, and the
// busiest master's share.
func BenchmarkShards(b *testing.B) {
	for _, c := range []struct{ masters, listeners int }{{1, 0}, {3, 0}, {1, 1}, {3, 1}} {
		masters := c.masters
		b.Run(fmt.Sprintf("masters=%d/listeners=%d", masters, c.listeners), func(b *testing.B) {
			var servers []*stagetest.Server
			if masters == 1 {
				servers = []*stagetest.Server{stagetest.Real(b, stagetest.Durable...)}
			} else {
				servers = stagetest.ShardedOf(b, masters, false).Servers
			}
			broker, err := stage.Open(stage.Options{Redis: servers[0].Options(), Log: slog.New(slog.DiscardHandler)})
			stagetest.OK(b, err)
			b.Cleanup(func() { broker.Close() })
			var done atomic.Int64
			for _, c := range []stage.Config{{Name: "first", In: "in", Out: []stage.Output{{Channel: "mid"}}}, {Name: "second", In: "mid"}} {
				s, err := broker.New(c, stage.Batch(256, func(_ context.Context, in []stage.Event[string]) []stage.Result {
					out := make([]stage.Result, len(in))
					for i, e := range in {
						if c.Name == "first" {
							out[i].Out = []stage.Message{{Body: e.Body}}
						} else {
							done.Add(1)
						}
					}
					return out
				}))
				stagetest.OK(b, err)
				stagetest.Run(b, s)
			}
			if c.listeners > 0 {
				listen(b, servers[0], "in", "mid")
			}
			p := broker.Publisher("edge", "in")
			b.Cleanup(func() { p.Close() })
			const n, clients = 40_000, 256
			move := func() {
				done.Store(0)
				var all sync.WaitGroup
				for range clients {
					all.Go(func() {
						for range n / clients {
							if _, err := p.Publish(b.Context(), stage.Submission{Body: "ada@example.com"}); err != nil {
								b.Error(err)
							}
						}
					})
				}
				all.Wait()
				stagetest.Eventually(b, "all arrive", func() bool { return done.Load() == n/clients*clients })
			}
			move()
			before := make([]float64, masters)
			for i, s := range servers {
				before[i] = cpu(b, s)
			}
			for b.Loop() {
				move()
			}
			sum, most := 0.0, 0.0
			for i, s := range servers {
				used := cpu(b, s) - before[i]
				sum, most = sum+used, max(most, used)
			}
			b.ReportMetric(sum*1e6/float64(b.N*n), "redis-µs/event")
			b.ReportMetric(most/sum, "busiest")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// listen subscribes to channels until the benchmark ends.
func listen(b *testing.B, s *stagetest.Server, channels ...string) {
	sub := s.Client().Subscribe(b.Context(), channels...)
	b.Cleanup(func() { sub.Close() })
	go func() {
		for {
			if _, err := sub.Receive(b.Context()); err != nil {
				return
			}
		}
	}()
}

// cpu is the seconds of CPU that a server has used.
func cpu(b *testing.B, s *stagetest.Server) (sum float64) {
	info := s.Client().InfoMap(b.Context(), "cpu").Val()["CPU"]
	for _, name := range []string{"used_cpu_sys", "used_cpu_user"} {
		var x float64
		if _, err := fmt.Sscan(info[name], &x); err != nil {
			b.Fatal(err)
		}
		sum += x
	}
	return sum
}
