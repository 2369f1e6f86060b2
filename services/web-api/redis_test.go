package webapi

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/geodesy"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
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
	b, err := stage.Open(stage.Options{Redis: &redis.Options{Addr: addr}, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// runStage runs a stage until the test ends.
func runStage(t testing.TB, b *stage.Broker, c stage.Config, h stage.Handler) {
	t.Helper()
	s, err := b.New(c, h)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	})
}

// serve runs the service on a free port, with the other services at reads if that is given. The
// returned stop ends it and waits; it may be called twice.
func serve(t testing.TB, b *stage.Broker, s Settings, reads ...Reads) (base string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	d := Deps{Hosts: config.Hosts{"milepost.test"}, Broker: b, Listener: l, Office: velocity, Settings: s, Log: quiet}
	if len(reads) > 0 {
		d.Reads = reads[0]
	}
	go func() { done <- Run(ctx, d) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("Run goes on after its context ended")
		}
	}
	t.Cleanup(stop)
	return "http://" + l.Addr().String(), stop
}

// entries are the payloads in the stream.
func entries(t testing.TB, addr string) []string {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	defer rdb.Close()
	all, err := rdb.XRange(context.Background(), "raw_input", "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	payloads := make([]string, 0, len(all))
	for _, e := range all {
		payloads = append(payloads, fmt.Sprint(e.Values["payload"]))
	}
	return payloads
}
