package stage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/milepost/milepost/pkg/stage/internal/keys"
	"github.com/milepost/milepost/pkg/stage/internal/link"
	"github.com/milepost/milepost/pkg/stage/internal/script"
)

// work takes deliveries from the queue, calls the handler and passes on what becomes of them, until the queue is closed.
func (s *Stage) work(ctx context.Context, workers *sync.WaitGroup) {
	in, out := make([]*delivery, s.h.max), make([]Result, s.h.max)
	var t *turn
	defer func() { t.end() }()
	for {
		n, alone := s.queue.take(in)
		if n == 0 {
			return
		}
		in, out := in[:n], out[:n]
		if alone && !s.markAlone(ctx, in[0]) {
			s.queue.done(1)
			continue
		}
		start := time.Now()
		if t == nil || start.After(t.ends) {
			t.end()
			t = s.newTurn(ctx, workers, start)
		}
		spans := s.begin(in)
		t.begin(in)
		s.call(spans.in(t.ctx), in, out, start)
		spans.end(out)
		if !t.done() {
			return // another worker has taken this one's place
		}
		s.judge(ctx, in, out)
		if alone {
			s.unmarkAlone(ctx)
		}
		s.queue.done(n)
		clear(in)
		clear(out)
	}
}

const turnLength = 10 * time.Millisecond

// turn is a stretch of at most turnLength in which one worker begins calls. They share a context with a deadline and a watch
// over those that ignore it, which would cost more to make for each call than many a handler does: a call has
// Config.Timeout, and up to turnLength more.
type turn struct {
	ctx    context.Context
	cancel context.CancelFunc
	ends   time.Time // no call begins later
	watch  *time.Timer
	in     []*delivery // of the present call
	state  atomic.Int32
}

const (
	turnIdle    = iota
	turnCalling // the watch may read in
	turnOver    // the call was given up on: nothing of it is the worker's any more
)

// newTurn begins a turn. A call that goes on for half as long again as its time is given up on: its events fail, and a new
// worker takes this one's place.
func (s *Stage) newTurn(ctx context.Context, workers *sync.WaitGroup, now time.Time) *turn {
	length := min(turnLength, s.cfg.Timeout/10)
	t := &turn{ends: now.Add(length)}
	t.ctx, t.cancel = context.WithDeadline(ctx, t.ends.Add(s.cfg.Timeout))
	patience := s.cfg.Timeout + s.cfg.Timeout/2
	t.watch = time.AfterFunc(length+patience, func() {
		if !t.state.CompareAndSwap(turnCalling, turnOver) {
			return
		}
		s.log.Error("the handler ignores its context; going on without it", about(t.in))
		s.judge(ctx, t.in, failed(len(t.in), fmt.Errorf("no answer within %s", patience)))
		s.queue.done(len(t.in))
		workers.Go(func() { s.work(ctx, workers) })
	})
	return t
}

func (t *turn) begin(in []*delivery) {
	t.in = in
	t.state.Store(turnCalling)
}

// done tells whether the call's events are still the worker's.
func (t *turn) done() bool { return t.state.CompareAndSwap(turnCalling, turnIdle) }

func (t *turn) end() {
	if t != nil {
		t.watch.Stop()
		t.cancel()
	}
}

// call runs the handler. A panic is an error of every event.
func (s *Stage) call(ctx context.Context, in []*delivery, out []Result, start time.Time) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("the handler panicked", about(in), "panic", p, "stack", string(debug.Stack()))
			copy(out, failed(len(out), fmt.Errorf("panic: %v", p)))
		}
		s.m.handled(in, start, time.Now())
	}()
	killPoint("stage.before-handler")
	s.h.call(ctx, in, out)
	killPoint("stage.after-handler")
}

func failed(n int, err error) []Result {
	results := make([]Result, n)
	for i := range results {
		results[i].Err = err
	}
	return results
}

// judge decides by the results what becomes of the entries.
func (s *Stage) judge(ctx context.Context, in []*delivery, results []Result) {
	down, asked := error(nil), false
	for i, d := range in {
		err := results[i].Err
		if err == nil {
			s.out.add(s.forwarded(d, results[i]))
			continue
		}
		if errors.Is(err, ErrPermanent) {
			s.out.add(settlement{d: d, kind: dead, reason: err.Error()})
			continue
		}
		if context.Cause(ctx) == errDrained {
			continue // stays pending and is handed back
		}
		if !asked && !errors.Is(err, errRetryAfter) {
			asked = true
			if errors.Is(err, ErrDown) {
				down = err
			} else if s.cfg.Probe != nil {
				down = s.ask(ctx)
			}
		}
		switch {
		case errors.Is(err, ErrDown):
			s.pause(ctx, err, d)
		case down != nil && !errors.Is(err, errRetryAfter):
			s.pause(ctx, down, d)
		case d.Tries+1 >= s.cfg.MaxTries:
			d.Tries++
			s.out.add(settlement{d: d, kind: dead, reason: err.Error()})
		default:
			s.log.Warn("will be tried again", "event", d.EventID, "entry", d.EntryID, "tries", d.Tries+1, "err", err, traceField(d.Traceparent))
			d.failure = brief(err.Error())
			s.out.add(settlement{d: d, kind: retry, delay: s.delay(d.Tries, err)})
		}
	}
}

// delay doubles from BackoffMin with each try, up to BackoffMax, and takes a random half of it away.
func (s *Stage) delay(tries int, err error) time.Duration {
	if m := (*marked)(nil); errors.As(err, &m) && m.mark == errRetryAfter {
		return m.after
	}
	d := s.cfg.BackoffMin
	for range tries {
		d = min(2*d, s.cfg.BackoffMax)
	}
	return d/2 + rand.N(d/2+1)
}

// forwarded encodes the outputs of a handled event.
func (s *Stage) forwarded(d *delivery, r Result) settlement {
	x := settlement{d: d, kind: forward}
	if d.span != "" {
		d.Traceparent = d.span // what is forwarded follows from its handling
	}
	for _, m := range r.Out {
		to := s.outputs[m.Channel]
		if m.Channel == "" && len(s.cfg.Out) == 1 {
			to = 1
		}
		if to == 0 {
			return settlement{d: d, kind: dead, reason: fmt.Sprintf("the handler forwards to %q, which is not an output of stage %s", m.Channel, s.cfg.Name)}
		}
		payload, err := encode(m.Body)
		if err != nil {
			return settlement{d: d, kind: dead, reason: err.Error()}
		}
		x.add(to, payload)
		if p, ok := m.Body.(Progresser); ok && r.Progress == nil && d.Tracked {
			r.Progress = p.Progress()
		}
	}
	if d.Tracked && r.Progress != nil {
		x.progress, _ = encode(r.Progress)
	}
	return x
}

// ask runs the probe, one at a time.
func (s *Stage) ask(ctx context.Context) error {
	s.probe.Lock()
	defer s.probe.Unlock()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.cfg.Probe(ctx)
}

// pause stops reading and handling until the dependency is back, and puts the deliveries back at the queue's front. They
// stay pending under this consumer's name, and nothing is counted against them.
func (s *Stage) pause(ctx context.Context, why error, back *delivery) {
	s.queue.push([]*delivery{back}, func(d *delivery) bool { return d.Crashes >= 2 })
	if !s.gate.shut("paused", why) {
		return
	}
	s.queue.pause(true)
	s.m.paused.Set(1)
	s.log.Warn("paused", "err", why)
	go func() {
		var wait backoff
		start := time.Now()
		for wait.wait(ctx) {
			wait.next = min(wait.next, time.Second)
			err := error(nil)
			if s.cfg.Probe != nil {
				err = s.ask(ctx)
			} else if time.Since(start) < time.Second {
				continue
			}
			if err == nil {
				s.queue.pause(false)
				s.m.paused.Set(0)
				s.gate.open("paused") // last: who finds it open pauses again, and that must not be undone
				s.log.Info("goes on", "paused", time.Since(start).Round(time.Millisecond).String())
				return
			}
			s.gate.shut("paused", err)
		}
	}()
}

// markAlone notes in Redis that d is handled alone, and counts the crashes of a lasting consumer's entry, which nobody
// requeues. It returns false if the entry is not to be handled now.
func (s *Stage) markAlone(ctx context.Context, d *delivery) bool {
	var wait backoff
	for {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		reply, err := s.b.link.Run(call, script.Alone, []string{s.b.keys.Groups(s.cfg.In)}, s.cfg.Name, s.name, d.EntryID)
		cancel()
		if err == nil {
			if times := link.Int(reply[0]); times > 3 {
				d.Crashes += times - 1
				s.out.add(settlement{d: d, kind: dead, reason: fmt.Sprintf("%d processes died handling it alone", times-1)})
				return false
			}
			return true
		}
		if !wait.wait(ctx) {
			return false
		}
	}
}

// unmarkAlone takes the note back: what a process dies of from here on is not the entry, which may stay pending while the stage
// is paused. Should it fail, the next entry's note takes its place.
func (s *Stage) unmarkAlone(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_ = s.b.link.Check(ctx, s.b.link.Client.HDel(ctx, s.b.keys.Groups(s.cfg.In), keys.Alone(s.cfg.Name, s.name)).Err())
}
