package webapi

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/geodesy"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/pkg/telemetry"
	"github.com/milepost/milepost/services/internal/processtest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// velocity is the office of the tests.
var velocity = Office{Name: "Velocity", Point: must(geodesy.Degrees(32.080058, 34.864535))}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// eachRedis runs the test on the embedded Redis and on a redis-server.
func eachRedis(t *testing.T, test func(t *testing.T, addr string)) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) { test(t, o.Addr) })
}

func openBroker(t testing.TB, addr string) *stage.Broker {
	t.Helper()
	return processtest.Broker(t, &redis.Options{Addr: addr})
}

// serve runs the service on a free port, with the other services at reads if that is given, until
// stop is called or the test ends.
func serve(t testing.TB, b *stage.Broker, s Settings, reads ...Reads) (base string, stop func()) {
	t.Helper()
	d := Deps{Hosts: config.Hosts{"milepost.test"}, Broker: b, Office: velocity, Settings: s, Admin: telemetry.NewAdmin(), Log: quiet}
	if len(reads) > 0 {
		d.Reads = reads[0]
	}
	return processtest.Serve(t, func(ctx context.Context, l net.Listener) error {
		d.Listener = l
		return Run(ctx, d)
	})
}

// entries are the payloads in the stream.
func entries(t testing.TB, addr string) []string {
	t.Helper()
	rdb := stagetest.Client(t, &redis.Options{Addr: addr})
	all, err := rdb.XRange(context.Background(), "raw_input", "-", "+").Result()
	stagetest.OK(t, err)
	payloads := make([]string, 0, len(all))
	for _, e := range all {
		payloads = append(payloads, fmt.Sprint(e.Values["payload"]))
	}
	return payloads
}
