package stage_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// figure is a metric of the stage as the broker reports it.
func figure(t testing.TB, b *stage.Broker, name, of string) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(b)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetName() == "stage" && l.GetValue() == of {
					return m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
		}
	}
	t.Fatalf("no %s of stage %s", name, of)
	return 0
}

// What comes again is counted: a retry, and what a stopped consumer handed back. So are a group's
// consumers.
func TestMetricsRedelivered(t *testing.T) {
	t.Parallel()
	o := stagetest.Embedded(t)
	b := open(t, o)
	var fail atomic.Bool
	fail.Store(true)
	c := stage.Config{Name: "one", In: "in", BackoffMin: time.Millisecond, Drain: 10 * time.Millisecond}
	blocked := make(chan struct{})
	stop := start(t, b, c, stage.Each(func(ctx context.Context, e stage.Event[string]) (stage.Nothing, error) {
		if e.Body == "retry" && fail.Swap(false) {
			return stage.Nothing{}, errors.New("once")
		}
		if e.Body == "slow" {
			close(blocked)
			<-ctx.Done()
			return stage.Nothing{}, ctx.Err()
		}
		return stage.Nothing{}, nil
	}))
	p := publisher(t, b, "in")
	publish(t, p, "fresh", "retry")
	stagetest.Eventually(t, "the retry is counted", func() bool { return figure(t, b, "stage_redelivered_total", "one") == 1 })
	stagetest.Eventually(t, "one consumer is seen", func() bool { return figure(t, b, "stage_consumers", "one") == 1 })
	publish(t, p, "slow")
	<-blocked
	stop()

	second := open(t, o)
	var got tally
	start(t, second, c, got.sink())
	start(t, second, c, got.sink())
	stagetest.Eventually(t, "what was handed back is counted", func() bool { return figure(t, second, "stage_redelivered_total", "one") == 1 })
	stagetest.Eventually(t, "two consumers are seen", func() bool { return figure(t, second, "stage_consumers", "one") == 2 })
}
