package stage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"github.com/milepost/milepost/pkg/stage/internal/keys"
	"github.com/milepost/milepost/pkg/stage/internal/link"
	"github.com/milepost/milepost/pkg/stage/internal/poison"
	"github.com/milepost/milepost/pkg/stage/internal/script"
	"github.com/milepost/milepost/pkg/stage/killpoint"
)

// work handles deliveries from the queue until the queue is closed.
func (s *Stage) work(ctx context.Context) {
	for {
		in := s.queue.take(s.h.max)
		if len(in) == 0 {
			return
		}
		s.handle(ctx, in)
		s.queue.done(len(in))
	}
}

// handle calls the handler and passes on what becomes of the deliveries.
func (s *Stage) handle(ctx context.Context, in []*delivery) {
	if in[0].alone {
		if !s.markAlone(ctx, in[0]) {
			return
		}
		defer s.unmarkAlone(ctx, in[0].lane)
	}
	s.decide(ctx, in, s.call(ctx, in))
}

// call calls the handler with Config.Timeout. A panic, or no answer, is an error of every event.
func (s *Stage) call(ctx context.Context, in []*delivery) []Result {
	start := time.Now()
	spans := s.begin(in)
	limited, cancel := context.WithTimeout(spans.in(ctx), s.cfg.Timeout)
	defer cancel()
	out, ended := make([]Result, len(in)), make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				s.log.Error("the handler panicked", "panic", p, "stack", string(debug.Stack()))
				ended <- fmt.Errorf("panic: %v", p)
			}
		}()
		killpoint.Pass("stage.before-handler")
		s.h.call(limited, in, out)
		killpoint.Pass("stage.after-handler")
		ended <- nil
	}()
	if err := s.answer(ctx, ended); err != nil {
		if errors.Is(err, errNoAnswer) {
			s.log.Error("the handler ignores its context; going on without it", about(in))
		}
		out = slices.Repeat([]Result{{Err: err}}, len(in))
	}
	spans.end(out)
	s.m.handled(in, start, time.Now())
	return out
}

var errNoAnswer = errors.New("no answer")

// answer waits for a handler call to end. It gives up on one that ignores its context: after one
// and a half times Config.Timeout, or a second after ctx ended. What such a call returns in the end
// is dropped. Its goroutine is the only one that may be left when Run returns.
//
// For that each call has a goroutine, a context and timers, 2 µs together (BenchmarkCall). A
// handler that is faster than that is better made with Batch: distance's hop is at 0.9 of a bare
// client, one with Each at 0.7 (BenchmarkHop).
func (s *Stage) answer(ctx context.Context, ended chan error) error {
	patience := time.NewTimer(s.cfg.Timeout + s.cfg.Timeout/2)
	defer patience.Stop()
	select {
	case err := <-ended:
		return err
	case <-patience.C:
	case <-ctx.Done():
		select {
		case err := <-ended:
			return err
		case <-time.After(time.Second):
		}
	}
	return fmt.Errorf("%w within %s", errNoAnswer, s.cfg.Timeout+s.cfg.Timeout/2)
}

// decide settles the entries by their results, or puts them back while a dependency is down.
func (s *Stage) decide(ctx context.Context, in []*delivery, results []Result) {
	var outage error // behind the errors of this call: the first one's if it is Down, else the probe's
	asked := false
	for i, d := range in {
		err := results[i].Err
		switch {
		case err == nil:
			d.lane.out.add(s.forwarded(d, results[i]))
		case errors.Is(err, ErrPermanent):
			d.lane.out.add(settlement{d: d, kind: dead, reason: err.Error()})
		case context.Cause(ctx) == errDrained: // stays pending; leave hands it back
		case errors.Is(err, ErrDown):
			if !asked {
				asked, outage = true, err
			}
			s.pause(ctx, err, d)
		case errors.Is(err, errRetryAfter):
			s.failed(d, err)
		default:
			if !asked {
				asked, outage = true, s.ask(ctx)
			}
			if outage != nil {
				s.pause(ctx, outage, d)
			} else {
				s.failed(d, err)
			}
		}
	}
}

// failed counts a try, and has the entry tried again or, after the last try, set aside.
func (s *Stage) failed(d *delivery, err error) {
	if d.Tries+1 >= s.cfg.MaxTries {
		d.Tries++
		d.lane.out.add(settlement{d: d, kind: dead, reason: err.Error()})
		return
	}
	s.log.Warn("will be tried again", "event", d.EventID, "entry", d.EntryID, "tries", d.Tries+1,
		"err", err, traceField(d.Traceparent))
	d.failure = brief(err.Error())
	d.lane.out.add(settlement{d: d, kind: retry, delay: s.delay(d.Tries, err)})
}

// delay is BackoffMin doubled with each try, at most BackoffMax, less up to half of it at random.
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
		d.Traceparent = d.span // the parent of what is forwarded
	}
	for _, m := range r.Out {
		to := s.outputs[m.Channel]
		if m.Channel == "" && len(s.cfg.Out) == 1 {
			to = 1
		}
		if to == 0 {
			reason := fmt.Sprintf("the handler forwards to %q, which is not an output of stage %s", m.Channel, s.cfg.Name)
			return settlement{d: d, kind: dead, reason: reason}
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

// ask runs the probe, if there is one, one at a time.
func (s *Stage) ask(ctx context.Context) error {
	if s.cfg.Probe == nil {
		return nil
	}
	s.probe.Lock()
	defer s.probe.Unlock()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.cfg.Probe(ctx)
}

// pause stops reading and handling until the dependency is back. The delivery goes to the back of
// the queue: if only its own dependency is down, which pauses the stage again each time, the others
// are handled in between. Meanwhile it stays pending under this consumer's name, and nothing is
// counted against it.
func (s *Stage) pause(ctx context.Context, why error, d *delivery) {
	s.queue.push(d)
	if !s.shut(paused, why) {
		return
	}
	s.queue.pause(true)
	s.m.paused.Set(1)
	s.log.Warn("paused", "err", why)
	s.background.Go(func() { s.resume(ctx) })
}

// resume ends the pause when the probe succeeds; without a probe, after a second.
func (s *Stage) resume(ctx context.Context) {
	var wait backoff
	start := time.Now()
	for wait.wait(ctx) {
		if s.cfg.Probe == nil && time.Since(start) < time.Second {
			continue
		}
		if err := s.ask(ctx); err != nil {
			s.shut(paused, err)
			continue
		}
		s.queue.pause(false)
		s.m.paused.Set(0)
		s.open(paused) // last: a worker that finds the gate open pauses again, which must not be undone
		s.log.Info("goes on", "paused", time.Since(start).Round(time.Millisecond).String())
		return
	}
}

// markAlone notes in Redis that d is handled alone. This counts the crashes of a lasting consumer's
// entry, which is never requeued. It returns false if the entry is not to be handled now.
func (s *Stage) markAlone(ctx context.Context, d *delivery) bool {
	var wait backoff
	for {
		times, err := d.lane.link.RunInt(ctx, script.Alone, []string{d.lane.keys.Groups(s.cfg.In)}, s.cfg.Name, s.name, d.EntryID, s.life)
		if err == nil {
			if poison.Killed(times) {
				d.Crashes += times - 1
				d.lane.out.add(settlement{d: d, kind: dead, reason: fmt.Sprintf("%d processes died handling it alone", times-1)})
				return false
			}
			return true
		}
		if !wait.wait(ctx) {
			return false
		}
	}
}

// unmarkAlone takes the note back: the entry may stay pending while the stage is paused, and is not
// to blame if the process dies then. After an error, the next entry's note replaces this one.
func (s *Stage) unmarkAlone(ctx context.Context, on *lane) {
	ctx, cancel := link.Within(ctx, callTimeout)
	defer cancel()
	_ = on.link.Check(ctx, on.link.Client().HDel(ctx, on.keys.Groups(s.cfg.In), keys.Alone(s.cfg.Name, s.name)).Err())
}
