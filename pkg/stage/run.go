package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/milepost/milepost/pkg/stage/internal/script"
)

// Run joins the stage's group, reads, handles and settles until ctx is cancelled. Then it drains:
// it stops reading, finishes what it holds (for Config.Drain at most), settles it, and hands the
// rest back for another replica. It returns nil after that, however much was handed back; an error
// means that waiting cannot help. It waits out every outage of Redis. Run may be called once.
func (s *Stage) Run(ctx context.Context) error {
	defer s.b.crew.enter(ctx, s)()
	if err := s.meet(ctx); ctx.Err() != nil {
		return nil
	} else if err != nil {
		return err
	}
	r := s.start(ctx)
	lanes := s.all()
	var each sync.WaitGroup
	for _, l := range lanes {
		each.Go(func() { l.run(ctx, r.live) })
	}
	each.Wait()
	s.shut(draining, nil)
	r.stop()
	errs := make([]error, len(lanes))
	for i, l := range lanes {
		each.Go(func() { errs[i] = l.leave(context.WithoutCancel(ctx)) })
	}
	each.Wait()
	s.log.Info("stopped", "consumer", s.name)
	return errors.Join(errs...)
}

// meet makes the stage's lanes, and waits while Redis is away. It fails with ErrCluster or
// ErrShards, or when ctx ends.
func (s *Stage) meet(ctx context.Context) error {
	return s.waitForRedis(ctx, &s.before, func() error {
		shards, err := s.b.shards(ctx)
		if err == nil && s.cfg.Writers > len(shards) {
			return fmt.Errorf("stage %s: %w: %d writers, and the pipeline has %d; a single Redis has 1", s.cfg.Name, ErrShards, s.cfg.Writers, len(shards))
		}
		if err == nil {
			s.enlist(shards)
		}
		return err
	})
}

// waitForRedis calls f again and again until it succeeds, or fails in a way that waiting does not
// help, or ctx ends. Meanwhile the gate is shut, and says why.
func (s *Stage) waitForRedis(ctx context.Context, g *gate, f func() error) error {
	var wait backoff
	for {
		err := f()
		switch {
		case err == nil:
			g.open(redisAway, "")
			return nil
		case errors.Is(err, ErrCluster) || errors.Is(err, ErrShards):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
		if g.shut(redisAway, "", err) && s.b.denied() == nil { // what is denied was logged
			s.log.Warn("waiting for redis", "err", err)
		}
		wait.wait(ctx)
	}
}

// run joins, and reads until ctx ends.
func (l *lane) run(ctx, live context.Context) {
	starts, err := l.join(ctx, true)
	if err != nil {
		return // ctx has ended
	}
	l.joined = true
	l.gate.open(starting, "")
	if l.index == 0 {
		l.log.Info("reading", "channel", l.cfg.In, "consumer", l.name)
	}
	l.background.Go(func() { l.tickLoop(live) })
	if l.divided() {
		l.readOwn(ctx, starts)
		l.readRest(live)
	} else {
		l.readLoop(ctx, starts)
	}
}

// running are the goroutines of a Run, and what ends them. Draining goes on after the signal that
// ended Run's own context, which therefore ends only reading and the wish to adopt.
type running struct {
	s                          *Stage
	live, handling             context.Context // handling: of handler calls; live: of everything else
	end                        context.CancelFunc
	endHandling                context.CancelCauseFunc
	workers, settlers, adopter sync.WaitGroup // all others are in s.background
}

func (s *Stage) start(ctx context.Context) *running {
	r := &running{s: s}
	r.live, r.end = context.WithCancel(context.WithoutCancel(ctx))
	r.handling, r.endHandling = context.WithCancelCause(r.live)
	for range s.cfg.Workers {
		r.workers.Go(func() { s.work(r.handling) })
	}
	for _, l := range s.all() {
		for range settleAtOnce {
			r.settlers.Go(func() { l.settleLoop(r.live) })
		}
		if !s.cfg.NoAdopt && l.index == 0 {
			for _, f := range l.feeds() {
				r.adopter.Go(func() { f.adoptLoop(ctx, r.live) })
				if f.marker == "SPUBLISH" {
					s.background.Go(func() { f.look(ctx) })
				}
			}
		}
	}
	return r
}

var errDrained = errors.New("the drain's time is over")

// stop drains and ends all goroutines. They end in the order in which an entry passes them, and
// liveness is renewed until the last. If Redis does not answer meanwhile, stop gives up a call's
// time after the drain's: what is unsettled then stays pending.
func (r *running) stop() {
	over := time.AfterFunc(r.s.cfg.Drain, func() {
		r.endHandling(errDrained)
		r.s.queue.close()
	})
	defer over.Stop()
	cut := time.AfterFunc(r.s.cfg.Drain+callTimeout, r.end)
	defer cut.Stop()

	r.s.queue.drain()
	r.endHandling(errDrained)
	r.s.queue.close()
	r.workers.Wait()
	for _, l := range r.s.all() {
		l.out.close()
	}
	r.settlers.Wait()
	r.adopter.Wait()
	r.end()
	r.s.background.Wait()
}

// later calls f after d, unless ctx ends first.
func (l *lane) later(ctx context.Context, d time.Duration, f func()) {
	l.background.Go(func() {
		select {
		case <-ctx.Done():
		case <-time.After(d):
			f()
		}
	})
}

// registration is what the stage tells of itself in the hash of stages.
type registration struct {
	In       string   `json:"in,omitempty"`
	Out      []Output `json:"out,omitempty"`
	Optional bool     `json:"optional,omitempty"`
}

// join makes the consumer, its group and its stage known, and waits while Redis is away. first
// marks the start of this process. It returns how often a lasting consumer has started without
// settling what it already held. It fails when ctx ends.
func (l *lane) join(ctx context.Context, first bool) (starts int, err error) {
	about, err := json.Marshal(registration{In: l.cfg.In, Out: l.cfg.Out, Optional: l.cfg.Optional})
	if err != nil {
		return 0, err
	}
	policy, start, lasting := "required", "", ""
	if l.cfg.Optional {
		policy = "optional"
	}
	if first {
		start = "1"
	}
	if l.lasting {
		lasting = "1"
	}
	k := l.keys
	var reply struct { // as the script's header says
		Made   bool
		Starts int
	}
	err = l.waitForRedis(ctx, &l.gate, func() error {
		return l.link.RunJSON(ctx, &reply, script.Join,
			[]string{k.Stream(l.cfg.In), k.Groups(l.cfg.In), k.Floors(l.cfg.In), k.Stages(), k.Consumer(l.cfg.Name, l.name)},
			l.cfg.Name, l.name, policy, l.b.opt.Lease.Milliseconds(), string(about), lasting, start)
	})
	if err == nil && reply.Made {
		l.log.Info("made the group", "channel", l.cfg.In)
	}
	return reply.Starts, err
}

// leave hands back what is pending and deletes the consumer. A lasting consumer keeps both, but for
// a shard of a cluster that is not its own, or no longer.
func (l *lane) leave(ctx context.Context) error {
	if !l.joined {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if l.lasting {
		_ = l.survived(ctx) // an error is no harm: the next start handles what is pending alone
		if !l.divided() {
			return nil
		}
		if l.owns() {
			if err := l.giveBefore(ctx, giveWithin); err != nil {
				l.log.Warn("the shard stays with this writer, and waits for it", "shard", l.index, "consumer", l.name, "err", err)
				return nil
			}
		}
	}
	var wait backoff
	for {
		n, err := l.link.RunInt(ctx, script.Leave, []string{l.keys.Stream(l.cfg.In)}, l.cfg.Name, l.name, 128, l.maxDead)
		switch {
		case err != nil:
			if !errors.Is(err, ErrUnavailable) || !wait.wait(ctx) {
				return fmt.Errorf("stage %s: hand back what is unfinished: %w", l.cfg.Name, err)
			}
		case n == 0:
			return nil
		default:
			l.log.Info("handed back", "entries", n)
		}
	}
}
