//go:build unix

package e2e

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// wire is a TCP proxy between a service and what it depends on, with faults that a test switches
// while connections are open.
type wire struct {
	addr   string // where it listens
	target string
	l      net.Listener
	all    sync.WaitGroup
	over   chan struct{}

	mu    sync.Mutex
	now   fault
	round int // counts set
	open  map[*strand]struct{}
	cuts  int // connections that were reset
	lost  int // connections that went half open
	trap  *trap
}

// trap holds one connection up in the middle of a request that contains a text, so that a test can
// act at that moment.
type trap struct {
	text   []byte
	after  bool          // hold it when the request was answered, and lose the answer; else hold and lose the request
	sprung chan struct{} // closed when it is held up
	goOn   chan struct{} // to be closed by the test: the connection is reset
}

// lay sets a trap. There is one at a time.
func (w *wire) lay(text string, after bool) *trap {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trap = &trap{text: []byte(text), after: after, sprung: make(chan struct{}), goOn: make(chan struct{})}
	return w.trap
}

// trapped holds the connection up if it is in the trap, and tells whether it must end now.
func (w *wire) trapped(s *strand, b []byte, request bool) bool {
	w.mu.Lock()
	t := w.trap
	switch {
	case request && t != nil && bytes.Contains(b, t.text):
		w.trap = nil
		if t.after {
			s.caught = t // until its answer comes
			t = nil
		}
	case !request && s.caught != nil:
		t, s.caught = s.caught, nil
	default:
		t = nil
	}
	w.mu.Unlock()
	if t == nil {
		return false
	}
	close(t.sprung)
	select {
	case <-t.goOn:
	case <-w.over:
	}
	return true
}

// fault is what a wire does to its connections.
type fault int

const (
	clear_   fault = iota
	cutReply       // reset each connection after some more bytes of replies
	cutAsk         // reset each connection after some more bytes of requests
	stall          // hold back replies for as long as the fault lasts
	late           // some milliseconds more for each piece of a reply
	mute           // open connections stop in the middle of a reply; new ones are accepted and get no answer
	halfOpen       // the far side is gone and this side is never told; what is sent is lost. New connections get no answer
)

// strand is one connection.
type strand struct {
	near, far net.Conn
	round     int  // of the budget
	budget    int  // bytes until it is cut
	dead      bool // half open, for good
	caught    *trap
}

// newWire makes a wire to target that ends with the test.
func newWire(t testing.TB, target string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	stagetest.OK(t, err)
	w := &wire{addr: l.Addr().String(), target: target, l: l, over: make(chan struct{}), open: map[*strand]struct{}{}}
	w.all.Go(w.accept)
	t.Cleanup(func() {
		_ = l.Close()
		close(w.over)
		w.mu.Lock()
		w.now = clear_ // nothing is held back any more
		for s := range w.open {
			s.close()
		}
		w.mu.Unlock()
		w.all.Wait()
	})
	return w
}

// set begins a fault, or ends one with clear_.
func (w *wire) set(f fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = f
	w.round++
	if f == halfOpen {
		for s := range w.open {
			w.lose(s)
		}
	}
}

// lose makes a connection half open.
func (w *wire) lose(s *strand) {
	if !s.dead {
		s.dead = true
		w.lost++
		_ = s.far.Close()
	}
}

func (s *strand) close() {
	_ = s.near.Close()
	_ = s.far.Close()
}

func (w *wire) accept() {
	for {
		near, err := w.l.Accept()
		if err != nil {
			return // closed
		}
		far, err := net.Dial("tcp", w.target)
		if err != nil {
			_ = near.Close() // as if nobody listened
			continue
		}
		s := &strand{near: near, far: far}
		w.mu.Lock()
		w.open[s] = struct{}{}
		switch w.now {
		case halfOpen:
			w.lose(s)
		case mute:
			s.round = w.round // with no budget
		}
		w.mu.Unlock()
		w.all.Go(func() { w.carry(s, near, far, cutAsk) })
		w.all.Go(func() { w.carry(s, far, near, cutReply) })
	}
}

// carry copies one direction until either side ends. cut is the fault that cuts this direction.
func (w *wire) carry(s *strand, from, to net.Conn, cut fault) {
	b := make([]byte, 16<<10)
	for {
		n, err := from.Read(b)
		if n > 0 && w.trapped(s, b[:n], cut == cutAsk) {
			w.end(s, true)
			return
		}
		for rest := b[:n]; len(rest) > 0; {
			some, reset := w.allowed(s, rest, cut)
			if len(some) > 0 {
				if _, failed := to.Write(some); failed != nil {
					w.end(s, false)
					return
				}
			}
			if reset {
				w.end(s, true)
				return
			}
			rest = rest[max(len(some), 0):]
			if len(some) == 0 {
				break // swallowed
			}
		}
		if err != nil {
			w.mu.Lock()
			dead := s.dead
			w.mu.Unlock()
			if dead && from == s.far {
				return // this side is never told
			}
			w.end(s, err != io.EOF)
			return
		}
	}
}

// allowed waits as the fault demands. It returns the part of b that may pass and whether the
// connection ends then.
func (w *wire) allowed(s *strand, b []byte, cut fault) (some []byte, reset bool) {
	for {
		w.mu.Lock()
		if s.dead {
			w.mu.Unlock()
			return nil, false
		}
		now, round := w.now, w.round
		switch {
		case now == cut:
			if s.round != round {
				s.round, s.budget = round, rand.IntN(1500)
			}
			if s.budget < len(b) {
				b, reset = b[:s.budget], true
				w.cuts++
			}
			s.budget -= len(b)
			w.mu.Unlock()
			return b, reset
		case now == mute && cut == cutReply && (s.round != round || s.budget > 0):
			if s.round != round {
				s.round, s.budget = round, 1+rand.IntN(200)
			}
			b = b[:min(len(b), s.budget)]
			s.budget -= len(b)
			w.mu.Unlock()
			return b, false
		case (now == stall || now == mute) && cut == cutReply:
			w.mu.Unlock()
			time.Sleep(5 * time.Millisecond) // looks again whether the fault is over
			continue
		}
		w.mu.Unlock()
		if now == late && cut == cutReply {
			time.Sleep(rand.N(30 * time.Millisecond)) // the fault itself
		}
		return b, false
	}
}

// end closes both sides, with a reset if asked for.
func (w *wire) end(s *strand, reset bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if reset {
		for _, c := range []net.Conn{s.near, s.far} {
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
		}
	}
	s.close()
	delete(w.open, s)
}

// figures counts the connections that were reset and those that went half open.
func (w *wire) figures() (cuts, lost int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cuts, w.lost
}
