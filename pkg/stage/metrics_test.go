package stage_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/internal/link"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// figure is a metric of the stage as the broker reports it.
func figure(t testing.TB, b *stage.Broker, name, of string) float64 {
	t.Helper()
	value, ok := findFigure(t, b, name, of)
	if !ok {
		t.Fatalf("no %s of stage %s", name, of)
	}
	return value
}

func findFigure(t testing.TB, b *stage.Broker, name, of string) (value float64, ok bool) {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(b)
	families, err := r.Gather()
	stagetest.OK(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetName() == "stage" && l.GetValue() == of {
					return m.GetCounter().GetValue() + m.GetGauge().GetValue(), true
				}
			}
		}
	}
	return 0, false
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

// On a Redis Cluster each process shows the sums over all shards, a dead consumer counts once, and
// the memory and the connections of every master are there.
func TestMetricsCluster(t *testing.T) {
	t.Parallel()
	const n = 64
	c := stagetest.ShardedOf(t, 3, false, "--maxmemory", "256mb")
	release := make(chan struct{})
	var both []*stage.Broker
	for range 2 {
		b := openCluster(t, c, func(o *stage.Options) { o.Lease = 10 * time.Second }) // neither takes over from the other
		both = append(both, b)
		start(t, b, stage.Config{Name: "one", In: "in"}, stage.Each(func(ctx context.Context, _ stage.Event[string]) (stage.Nothing, error) {
			select {
			case <-release:
				return stage.Nothing{}, stage.Permanent(errors.New("refused"))
			case <-ctx.Done():
				return stage.Nothing{}, ctx.Err()
			}
		}))
	}
	links, err := both[0].Shards(t.Context())
	stagetest.OK(t, err)
	stagetest.Eventually(t, "both are in all shards", func() bool {
		return !slices.ContainsFunc(links, func(l *link.Link) bool {
			return len(l.Client().XInfoConsumers(t.Context(), l.Keys.Stream("in"), "one").Val()) != 2
		})
	})
	for _, l := range links {
		stagetest.OK(t, l.Client().XGroupCreateConsumer(t.Context(), l.Keys.Stream("in"), "one", "ghost").Err())
	}
	p := publisher(t, both[0], "in")
	for range n {
		publish(t, p, "x")
	}
	shows := func(name string, want float64) {
		t.Helper()
		stagetest.Eventually(t, name+" is the same on both", func() bool {
			return figure(t, both[0], "stage_"+name, "one") == want && figure(t, both[1], "stage_"+name, "one") == want
		})
	}
	shows("backlog_entries", n)
	shows("pending_entries", n)
	shows("consumers", 2)
	if got := figure(t, both[0], "stage_taken_over_total", "one") + figure(t, both[1], "stage_taken_over_total", "one"); got != 1 {
		t.Errorf("one dead consumer counts %v times", got)
	}
	close(release)
	shows("dead_letters", n)
	shows("backlog_entries", 0)

	r := prometheus.NewRegistry()
	r.MustRegister(both[1])
	stagetest.Eventually(t, "of each master there are two figures of memory: what is used, and the limit", func() bool {
		families, err := r.Gather()
		stagetest.OK(t, err)
		memory := map[string]int{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if l := m.GetLabel(); len(l) == 1 && l[0].GetName() == "node" && (f.GetName() == "stage_redis_memory_max_bytes") == (m.GetGauge().GetValue() == 256<<20) {
					memory[l[0].GetValue()]++
				}
			}
		}
		return !slices.ContainsFunc(c.Servers, func(s *stagetest.Server) bool { return memory[s.Addr] != 2 })
	})
	if stats, most := both[1].Pool(); stats.TotalConns < uint32(len(links)) || most != 3*1000 {
		t.Errorf("the pool has %d connections and room for %d; want one for each of %d shards at least, and the room of 3 masters", stats.TotalConns, most, len(links))
	}
}
