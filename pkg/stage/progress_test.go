package stage_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/redis/go-redis/v9"
)

// mileage is an output that shows something of itself.
type mileage struct {
	Email string  `json:"email"`
	Miles float64 `json:"miles"`
}

func (m mileage) Progress() any { return map[string]float64{"miles": m.Miles} }

// steps gathers what a watch is told.
type steps struct {
	mu   sync.Mutex
	last map[string]stage.Step // by stage
}

func (s *steps) add(x stage.Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		s.last = map[string]stage.Step{}
	}
	s.last[x.ID+" "+x.Stage] = x
}

func (s *steps) state(id, name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last[id+" "+name].State
}

func TestProgress(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b := open(t, o)
		p := publisher(t, b, "in")
		start(t, b, stage.Config{Name: "distance", In: "in", Out: []stage.Output{{Channel: "out"}}, MaxTries: 2, BackoffMin: time.Millisecond, BackoffMax: time.Millisecond},
			stage.Each(func(_ context.Context, e stage.Event[string]) (mileage, error) {
				if e.Body == "bad" {
					return mileage{}, errors.New("no")
				}
				return mileage{Email: "a@example.com", Miles: 12.5}, nil
			}))
		w := b.Watcher()
		defer w.Close()
		watched := func(ids ...string) (*steps, func()) {
			s := &steps{}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- w.Watch(ctx, ids, s.add) }()
			return s, func() {
				cancel()
				if err := <-ended; !errors.Is(err, context.Canceled) {
					t.Errorf("Watch = %v, want context.Canceled", err)
				}
			}
		}
		const live, early, bad = "018f0000-0000-7000-8000-000000000001", "018f0000-0000-7000-8000-000000000002", "018f0000-0000-7000-8000-000000000003"
		if _, err := p.Publish(t.Context(), stage.Submission{ID: early, Body: "good", Track: true}); err != nil {
			t.Fatal(err)
		}
		stagetest.Eventually(t, "the early one is done", func() bool { s, _ := b.Progress(t.Context(), early); return len(s) == 2 })
		first, stopFirst := watched(live, early, bad)
		second, stopSecond := watched(live)
		stagetest.Eventually(t, "what happened before is told", func() bool { return first.state(early, "distance") == "done" })
		for id, body := range map[string]string{live: "good", bad: "bad"} {
			if _, err := p.Publish(t.Context(), stage.Submission{ID: id, Body: body, Track: true}); err != nil {
				t.Fatal(err)
			}
		}
		stagetest.Eventually(t, "both watchers see it live", func() bool {
			return first.state(live, "distance") == "done" && second.state(live, "distance") == "done" && second.state(live, "edge") == "done"
		})
		stagetest.Eventually(t, "the dead letter shows", func() bool { return first.state(bad, "distance") == "dead" })
		if second.state(early, "distance") != "" {
			t.Error("the second watcher saw an event it did not ask for")
		}
		first.mu.Lock()
		step := first.last[live+" distance"]
		first.mu.Unlock()
		if string(step.Detail) != `{"miles":12.5}` || !slices.Equal(step.Next, []string{"out"}) || time.Since(step.At) > time.Minute {
			t.Errorf("step = %+v, want miles and the next channel", step)
		}
		stopFirst()
		stopSecond()

		// An event that nobody asked to track leaves nothing behind.
		r, err := p.Publish(t.Context(), stage.Submission{Body: "good"})
		if err != nil {
			t.Fatal(err)
		}
		group(t, b, "in", "distance", "all settled", settled)
		if _, err := b.Progress(t.Context(), r.ID); !errors.Is(err, stage.ErrNotFound) {
			t.Errorf("Progress of an untracked event = %v, want ErrNotFound", err)
		}
	})
}

// A watch lives through a restart of Redis: what it missed is told after the reconnect.
func TestWatchReconnects(t *testing.T) {
	t.Parallel()
	srv := stagetest.Real(t, stagetest.Durable...)
	b := open(t, srv.Options())
	p := publisher(t, b, "in")
	w := b.Watcher()
	s, ended := &steps{}, make(chan error, 1)
	const id = "018f0000-0000-7000-8000-000000000001"
	if _, err := p.Publish(t.Context(), stage.Submission{ID: id, Body: "x", Track: true}); err != nil {
		t.Fatal(err)
	}
	go func() { ended <- w.Watch(t.Context(), []string{id}, s.add) }()
	stagetest.Eventually(t, "the submission is told", func() bool { return s.state(id, "edge") == "done" })
	srv.Kill()
	srv.Start()
	start(t, b, stage.Config{Name: "s", In: "in"}, (&tally{}).sink())
	stagetest.Eventually(t, "the stage's step is told", func() bool { return s.state(id, "s") == "done" })
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, stage.ErrClosed) {
		t.Errorf("Watch of a closed watcher = %v, want ErrClosed", err)
	}
}
