package distance_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/geodesy"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/pkg/telemetry"
	"github.com/milepost/milepost/services/distance"
	"github.com/milepost/milepost/services/internal/processtest"
)

// BenchmarkHop moves events from raw_input to calculated_distance: with the real stage and its
// defaults, and with a bare pipelined client that issues the same commands and does not look into
// the payload. Both run in turns on one server and on one processor, as the program does; the
// result is the median of each.
func BenchmarkHop(b *testing.B) {
	const n = 100_000
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	srv := stagetest.Real(b)
	rdb := srv.Client()
	office, err := geodesy.Degrees(32.080058, 34.864535)
	stagetest.OK(b, err)
	var bare, staged []float64
	for range b.N {
		for range 3 {
			for _, hop := range []func() time.Duration{
				func() time.Duration { return stagetest.BareHop(b, rdb, event.RawInput, event.CalculatedDistance, n) },
				func() time.Duration { return stageHop(b, srv, office, n) },
			} {
				rdb.FlushAll(b.Context())
				fill(b, rdb, n)
				rate := n / hop().Seconds()
				if got := rdb.XLen(b.Context(), event.CalculatedDistance).Val(); got != n {
					b.Fatalf("%d forwarded, want %d", got, n)
				}
				if len(bare) == len(staged) {
					bare = append(bare, rate)
				} else {
					staged = append(staged, rate)
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
}

// fill adds n submissions to raw_input as web-api does.
func fill(b *testing.B, rdb *redis.Client, n int) {
	b.Helper()
	for i := 0; i < n; {
		p := rdb.Pipeline()
		for j := 0; j < 1000 && i < n; j++ {
			payload := fmt.Sprintf(`{"email":"someone-%d@example.com","lat":"%.4f","long":"%.4f"}`, i, float64(i%1600)/10-80, float64(i%3500)/10-175)
			p.XAdd(b.Context(), &redis.XAddArgs{Stream: event.RawInput, Values: []any{"payload", payload, "id", fmt.Sprintf("01890000-0000-7000-8000-%012d", i), "at", "1700000000000"}})
			i++
		}
		if _, err := p.Exec(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func stageHop(b *testing.B, srv *stagetest.Server, office geodesy.Point, n int64) time.Duration {
	b.Helper()
	broker, err := stage.Open(stage.Options{Redis: srv.Options(), Log: slog.New(slog.DiscardHandler)})
	stagetest.OK(b, err)
	defer broker.Close()
	rdb := srv.Client()
	start := time.Now()
	stop := processtest.Run(b, func(ctx context.Context) error {
		return distance.Run(ctx, distance.Deps{Broker: broker, Office: office, Admin: telemetry.NewAdmin()})
	})
	for rdb.XLen(b.Context(), event.CalculatedDistance).Val() < n {
		time.Sleep(time.Millisecond) // as rarely as the time measured allows
	}
	took := time.Since(start)
	stop()
	return took
}
