package stage_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

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
