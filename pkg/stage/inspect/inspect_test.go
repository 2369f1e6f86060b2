package inspect_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

func open(t testing.TB, o *redis.Options) *stage.Broker {
	t.Helper()
	b, err := stage.Open(stage.Options{Redis: o, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Lease: time.Second})
	stagetest.OK(t, err)
	t.Cleanup(func() { b.Close() })
	return b
}

// start runs a stage until stop is called or the test ends.
func start(t testing.TB, b *stage.Broker, c stage.Config, h stage.Handler) (stop func()) {
	t.Helper()
	s, err := b.New(c, h)
	stagetest.OK(t, err)
	stop = stagetest.Run(t, s)
	stagetest.Eventually(t, "stage "+c.Name+" is ready", func() bool { return s.Ready() == nil })
	return stop
}
