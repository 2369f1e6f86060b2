package stage

import (
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// fullnessOf is what a scrape of b says about Redis' memory: bytes by name, without what all the
// names begin with.
func fullnessOf(t testing.TB, b *Broker) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(b)
	families, err := r.Gather()
	stagetest.OK(t, err)
	said := map[string]float64{}
	for _, f := range families {
		if name, ok := strings.CutPrefix(f.GetName(), "stage_redis_memory_"); ok {
			said[name] = f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return said
}

func brokerOf(t testing.TB, o *redis.Options) *Broker {
	t.Helper()
	b, err := Open(Options{Redis: o, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	stagetest.OK(t, err)
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// Without a limit there is only what is used; of a Redis that is away, nothing.
func TestMemoryWithoutLimit(t *testing.T) {
	t.Parallel()
	s := stagetest.Real(t)
	b := brokerOf(t, s.Options())
	told := func(when string, want bool) {
		t.Helper()
		got := fullnessOf(t, b)
		if _, limited := got["max_bytes"]; limited || (got["used_bytes"] > 100<<10) != want {
			t.Errorf("%s it says %v", when, got)
		}
	}
	told("without a limit", true)
	s.Kill()
	told("while it is away", false)
	s.Start()
	told("when it is back", true)
}

// An embedded Redis does not know its memory, and a scrape does not fail for that.
func TestMemoryEmbedded(t *testing.T) {
	t.Parallel()
	b := brokerOf(t, stagetest.Embedded(t))
	if got := fullnessOf(t, b); len(got) > 0 {
		t.Errorf("an embedded Redis says %v", got)
	}
	if err := b.Ping(t.Context()); err != nil {
		t.Errorf("afterwards: Ping: %v", err)
	}
}

// A Redis that takes connections and does not answer holds a scrape up for less than the time any
// other call has.
func TestMemoryHangs(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	stagetest.OK(t, err)
	var open []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				open = append(open, c)
			}
		}
	}()
	b := brokerOf(t, &redis.Options{Addr: l.Addr().String()})
	start := time.Now()
	got := fullnessOf(t, b)
	if took := time.Since(start); took >= callTimeout {
		t.Errorf("a scrape took %s", took)
	}
	if len(got) > 0 {
		t.Errorf("a Redis that does not answer says %v", got)
	}
	_ = l.Close()
	<-done
	if len(open) != 1 {
		t.Errorf("it opened %d connections, want 1", len(open))
	}
	for _, c := range open {
		_ = c.Close()
	}
}
