package stage_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/redistest"
	"github.com/milepost/milepost/pkg/stage"
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

// stageHop moves n events with a stage that forwards them as they are.
func stageHop(b *testing.B, o *redis.Options, n int) time.Duration {
	b.Helper()
	broker, err := stage.Open(stage.Options{Redis: o, Log: slog.New(slog.DiscardHandler), MaxBacklog: 10 * n})
	if err != nil {
		b.Fatal(err)
	}
	defer broker.Close()
	var seen atomic.Int64
	all := make(chan struct{})
	s, err := broker.New(stage.Config{Name: "hop", In: "in", Out: []stage.Output{{Channel: "out"}}, NoAdopt: true, Workers: 2},
		stage.Each(func(_ context.Context, e stage.Event[[]byte]) ([]byte, error) {
			if seen.Add(1) == int64(n) {
				close(all)
			}
			return e.Body, nil
		}))
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	start := time.Now()
	go func() { ended <- s.Run(ctx) }()
	<-all
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

// BenchmarkHop compares one hop of a stage with a bare pipelined client on the same server, in turns; the median of each.
func BenchmarkHop(b *testing.B) {
	for _, c := range []struct {
		name string
		args []string
		n    int
	}{
		{"memory", nil, 100_000},
		{"appendfsync=always", redistest.Durable, 50_000},
	} {
		b.Run(c.name, func(b *testing.B) {
			srv := redistest.Real(b, c.args...)
			rdb := srv.Client()
			defer rdb.Close()
			var bare, staged []float64
			for range b.N {
				for range 3 {
					for _, side := range []string{"bare", "stage"} {
						rdb.FlushAll(b.Context())
						fill(b, rdb, "in", c.n)
						if side == "bare" {
							bare = append(bare, float64(c.n)/redistest.BareHop(b, rdb, "in", "out", c.n).Seconds())
						} else {
							staged = append(staged, float64(c.n)/stageHop(b, srv.Options(), c.n).Seconds())
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

// BenchmarkBacklog drains backlogs of different sizes: the rate must not fall, nor the stage's memory grow, with the size.
func BenchmarkBacklog(b *testing.B) {
	sizes := []int{10_000, 100_000, 1_000_000}
	srv := redistest.Real(b)
	rdb := srv.Client()
	defer rdb.Close()
	for range b.N {
		var first float64
		for _, n := range sizes {
			rdb.FlushAll(b.Context())
			fill(b, rdb, "in", n)
			heap, stop := watchHeap()
			rate := float64(n) / stageHop(b, srv.Options(), n).Seconds()
			stop()
			if first == 0 {
				first = rate
			}
			b.ReportMetric(rate, fmt.Sprintf("%d-events/s", n))
			b.ReportMetric(rate/first, fmt.Sprintf("%d-ratio", n))
			b.ReportMetric(float64(heap.Load())/(1<<20), fmt.Sprintf("%d-heap-MB", n))
		}
	}
	b.ReportMetric(0, "ns/op")
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
			srv := redistest.Real(b)
			broker, err := stage.Open(stage.Options{Redis: srv.Options(), Log: slog.New(slog.DiscardHandler), MaxBacklog: 100_000_000})
			if err != nil {
				b.Fatal(err)
			}
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
