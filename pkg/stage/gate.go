package stage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// state is what a consumer does when it does not work. The names are part of what status shows.
type state string

const (
	starting   state = "starting"
	redisAway  state = "redis"      // Redis is away
	paused     state = "paused"     // a dependency of the handler is down
	settling   state = "settling"   // Redis refuses the settle script
	chores     state = "chores"     // Redis refuses the tick script
	forwarding state = "forwarding" // Redis refuses to add to an output
	heldUp     state = "held up"    // an output is over MaxBacklog: pressure, not a fault
	noRoom     state = "adoption"   // Redis refuses to keep bare PUBLISHes, which wait in memory; reading goes on
	draining   state = "draining"
	elsewhere  state = "elsewhere" // the shard belongs to another writer: no fault
	copying    state = "replicas"  // not all replicas know that the shard is this writer's
)

// gate lets the stage read while nothing shuts it. Each obstacle keeps it shut until it is opened
// again.
type gate struct {
	mu        sync.Mutex
	changed   chan struct{}
	obstacles []obstacle
}

type obstacle struct {
	state state
	of    string // which output is heldUp, or which shard has noRoom; else ""
	err   error
}

func (o obstacle) is(s state, of string) bool { return o.state == s && o.of == of }

func (g *gate) init() { g.changed = make(chan struct{}) }

// shut adds an obstacle, or renews its error, and tells whether it is new.
func (g *gate) shut(s state, of string, err error) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.IndexFunc(g.obstacles, func(o obstacle) bool { return o.is(s, of) }); i >= 0 {
		g.obstacles[i].err = err
		return false
	}
	g.obstacles = append(g.obstacles, obstacle{s, of, err})
	g.signal()
	return true
}

// open removes an obstacle and tells whether it was there.
func (g *gate) open(s state, of string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := len(g.obstacles)
	g.obstacles = slices.DeleteFunc(g.obstacles, func(o obstacle) bool { return o.is(s, of) })
	if len(g.obstacles) == n {
		return false
	}
	g.signal()
	return true
}

func (g *gate) signal() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// wait blocks until nothing shuts the gate, or until ctx ends. It leaves out redisAway, which the
// reader itself finds out, and noRoom, which does not concern it.
func (g *gate) wait(ctx context.Context) {
	for {
		g.mu.Lock()
		shut := slices.ContainsFunc(g.obstacles, func(o obstacle) bool { return o.state != redisAway && o.state != noRoom })
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

// worst is the obstacle that somebody should know of first: the oldest fault, else starting or
// draining, else a full output.
func (g *gate) worst() (worst obstacle, shut bool) {
	weight := func(s state) int {
		switch s {
		case heldUp, noRoom, elsewhere:
			return 0
		case starting, draining:
			return 1
		default:
			return 2
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, o := range g.obstacles {
		if !shut || weight(o.state) > weight(worst.state) {
			worst, shut = o, true
		}
	}
	return worst, shut
}

// state is what status shows: what keeps the stage from working, and why, on one line. Both are ""
// while it works.
func (g *gate) state() (s state, why string) {
	o, _ := g.worst()
	if o.err != nil {
		why = brief(o.err.Error())
	}
	return o.state, why
}

// ready is nil while the stage works, else what it waits for. It is ready while an output is full.
func (g *gate) ready() error {
	o, shut := g.worst()
	switch {
	case !shut || o.state == heldUp || o.state == noRoom || o.state == elsewhere:
		return nil
	case o.err == nil:
		return errors.New(string(o.state))
	case o.state == redisAway || o.state == chores:
		return o.err // says it all: "redis is away: …", "redis refuses: …"
	default:
		return fmt.Errorf("%s: %w", o.state, o.err)
	}
}

// brief is text on one line, at most 300 bytes of it.
func brief(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}
