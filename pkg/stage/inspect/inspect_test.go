package inspect_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

func open(t testing.TB, o *redis.Options) *stage.Broker {
	t.Helper()
	b, err := stage.Open(stage.Options{Redis: o, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Lease: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// start runs a stage until stop is called or the test ends.
func start(t testing.TB, b *stage.Broker, c stage.Config, h stage.Handler) (stop func()) {
	t.Helper()
	s, err := b.New(c, h)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("stage %s: Run = %v, want nil after a drain", c.Name, err)
		}
	})
	t.Cleanup(stop)
	stagetest.Eventually(t, "stage "+c.Name+" is ready", func() bool { return s.Ready() == nil })
	return stop
}
