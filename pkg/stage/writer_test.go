package stage_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// writers is a stage on a cluster whose shards belong to lasting consumers.
type writers struct {
	t    *testing.T
	b    *stage.Broker
	got  map[string]*tally // by consumer
	sent []string
}

// run starts a consumer. A life is over before the next one of that name begins.
func (w *writers) run(name string, number, of int) (s *stage.Stage, stop func()) {
	w.t.Helper()
	if w.got[name] == nil {
		w.got[name] = new(tally)
	}
	got := w.got[name]
	s, err := w.b.New(stage.Config{Name: "s", In: "in", Consumer: name, Writer: number, Writers: of},
		stage.Each(func(_ context.Context, e stage.Event[string]) (stage.Nothing, error) {
			if age := time.Since(e.OwnedSince); age < -time.Second || age > time.Hour {
				w.t.Errorf("%s handles an event of shard %d, which it owns since %s", name, stage.ShardOf(e.ID, 16), e.OwnedSince)
			}
			got.add(e.ID, e.Body)
			return stage.Nothing{}, nil
		}))
	stagetest.OK(w.t, err)
	return s, stagetest.Run(w.t, s)
}

// owned waits until the shards belong to these consumers, by their number modulo how many there
// are; "" is no one.
func (w *writers) owned(names ...string) {
	w.t.Helper()
	var now []string
	defer func() {
		if w.t.Failed() {
			w.t.Logf("the shards belong to %q", now)
		}
	}()
	stagetest.Eventually(w.t, "the shards belong to "+strings.Join(names, ", "), func() bool {
		o, err := inspect.New(w.b).Overview(w.t.Context())
		if err != nil {
			return false
		}
		now = nil
		for _, s := range o.Shards {
			now = append(now, s.Writer("s"))
		}
		for i, writer := range now {
			if writer != names[i%len(names)] {
				return false
			}
		}
		return true
	})
}

// publish publishes n events, and waits until each was handled once if it is not to wait for a
// writer.
func (w *writers) publish(p *stage.Publisher, n int) {
	w.t.Helper()
	for range n {
		r, err := p.Publish(w.t.Context(), stage.Submission{Body: "x"})
		stagetest.OK(w.t, err)
		w.sent = append(w.sent, r.ID)
	}
}

// balance waits until all that was published was handled, and fails unless that was once each.
func (w *writers) balance() {
	w.t.Helper()
	total := func() (n int) {
		for _, c := range w.got {
			n += c.len()
		}
		return n
	}
	stagetest.Eventually(w.t, "all events are handled", func() bool { return total() >= len(w.sent) })
	for _, id := range w.sent {
		n := 0
		for _, c := range w.got {
			n += c.times(id)
		}
		if n != 1 {
			w.t.Errorf("event %s was handled %d times, want once", id, n)
		}
	}
}

// TestClusterWriters: each shard belongs to one lasting consumer. It changes hands when its writer
// stops, but not while a replica of its master is away, and not when the writer has only gone.
func TestClusterWriters(t *testing.T) {
	t.Parallel()
	c := stagetest.ShardedOf(t, 3, true)
	w := &writers{t: t, b: openCluster(t, c), got: map[string]*tally{}}
	p := w.b.Publisher("edge", "in")
	t.Cleanup(func() { p.Close() })

	_, stopA := w.run("a", 0, 1)
	w.owned("a")
	w.publish(p, 64)
	w.balance()
	b, stopB := w.run("b", 1, 2)
	stagetest.Eventually(t, "b is ready, and has no shard", func() bool {
		return b.Ready() == nil && strings.Contains(b.Shards(), "writer 1 of 2, 0 of 16 shards")
	})
	w.publish(p, 64) // under way while a stops
	stopA()
	w.owned("", "b")
	a, stopA := w.run("a", 0, 2)
	w.owned("a", "b")
	w.publish(p, 64)
	w.balance()
	for name, got := range w.got {
		for id := range maps.Clone(got.seen) {
			if i := slices.Index(w.sent, id); i >= 128 && stage.ShardOf(id, 16)%2 != map[string]int{"a": 0, "b": 1}[name] {
				t.Errorf("%s handled %s of shard %d", name, id, stage.ShardOf(id, 16))
			}
		}
	}

	replicas := c.Servers[3:]
	signal(t, syscall.SIGSTOP, replicas...)
	stopB()
	w.publish(p, 64)
	stagetest.Eventually(t, "a says whose shards wait", func() bool {
		return a.Ready() == nil && a.Shards() == "writer 0 of 2, 8 of 16 shards; not running: b, whose shards 1 3 5 7 9 11 13 15 wait"
	})
	stopA()
	w.owned("a", "b") // nothing was given up
	_, stopA = w.run("a", 0, 1)
	w.owned("a", "b") // what is b's waits for b
	signal(t, syscall.SIGCONT, replicas...)
	_, stopB = w.run("b", 1, 2)
	w.balance()
	stopB()
	w.owned("a")
	w.publish(p, 64)
	w.balance()

	signal(t, syscall.SIGSTOP, replicas...)
	stopA()
	_, stopB = w.run("b", 1, 2)
	a, _ = w.run("a", 0, 2) // it has all shards, of its earlier life, and gives up half of them
	w.publish(p, 64)
	w.balance()
	w.owned("a")
	signal(t, syscall.SIGCONT, replicas...)
	w.owned("a", "b")
	w.publish(p, 64)
	w.balance()
	stagetest.Eventually(t, "both say nothing", func() bool { return a.Shards() == "writer 0 of 2, 8 of 16 shards" })

	signal(t, syscall.SIGSTOP, replicas...)
	stopB()
	signal(t, syscall.SIGCONT, replicas...)
	w.publish(p, 64)
	if _, err := inspect.New(w.b).Claim(t.Context(), "in", "s", "b"); err != nil { // its journal is lost
		t.Fatal(err)
	}
	w.owned("a", "")
	w.run("c", 1, 2)
	w.owned("a", "c")
	w.balance()
}

func signal(t *testing.T, s syscall.Signal, servers ...*stagetest.Server) {
	t.Helper()
	for _, x := range servers {
		stagetest.OK(t, syscall.Kill(x.PID(), s))
	}
}

// More writers than shards, and several on a single Redis, end the stage.
func TestWritersRefused(t *testing.T) {
	t.Parallel()
	c := stagetest.ShardedOf(t, 1, false)
	for name, b := range map[string]*stage.Broker{
		"a cluster": openCluster(t, c, func(o *stage.Options) { o.Shards = 2 }),
		"one Redis": open(t, stagetest.Embedded(t)),
	} {
		s, err := b.New(stage.Config{Name: "s", In: "in", Consumer: "a", Writer: 2, Writers: 3}, new(tally).sink())
		stagetest.OK(t, err)
		if err := s.Run(t.Context()); !errors.Is(err, stage.ErrShards) {
			t.Errorf("3 writers on %s: %v, want ErrShards", name, err)
		}
	}
}
