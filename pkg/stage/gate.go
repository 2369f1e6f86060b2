package stage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// gate says whether the stage may read, and if not, why: each reason shuts it until it is opened again.
type gate struct {
	mu      sync.Mutex
	changed chan struct{}
	reasons []reason
}

type reason struct {
	name string // "redis", "paused", "full:<channel>", …
	err  error
}

func (g *gate) init() { g.changed = make(chan struct{}) }

// shut adds or renews a reason and tells whether it is new.
func (g *gate) shut(name string, err error) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.reasons {
		if g.reasons[i].name == name {
			g.reasons[i].err = err
			return false
		}
	}
	g.reasons = append(g.reasons, reason{name, err})
	g.signal()
	return true
}

// open removes a reason and tells whether it was there.
func (g *gate) open(name string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := len(g.reasons)
	g.reasons = slices.DeleteFunc(g.reasons, func(r reason) bool { return r.name == name })
	if len(g.reasons) == n {
		return false
	}
	g.signal()
	return true
}

func (g *gate) signal() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// wait blocks while any reason but "redis" (which the reader itself finds out) stands, or until ctx ends.
func (g *gate) wait(ctx context.Context) {
	for {
		g.mu.Lock()
		shut := slices.ContainsFunc(g.reasons, func(r reason) bool { return r.name != "redis" })
		changed := g.changed
		g.mu.Unlock()
		if !shut {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// state is "1" while nothing keeps the stage from reading, else why it does not, for status: on one line and not long.
func (g *gate) state() string {
	err := g.why()
	if err == nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		if len(g.reasons) == 0 {
			return "1"
		}
		err = fmt.Errorf("held up: %w", g.reasons[0].err) // an output is full
	}
	return brief(err.Error())
}

// brief is text on one line, at most 300 bytes of it.
func brief(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}

// why is nil while nothing keeps the stage from working. A full output is pressure, not a fault: the stage stays ready.
// What is waited for says more than that the stage is starting.
func (g *gate) why() (err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.reasons {
		switch {
		case r.name == "starting" || r.name == "draining":
			err = r.err
		case len(r.name) > 5 && r.name[:5] == "full:":
		default:
			return fmt.Errorf("%s: %w", r.name, r.err)
		}
	}
	return err
}
