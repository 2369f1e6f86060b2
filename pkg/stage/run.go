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
	if err := s.meet(ctx); err != nil || ctx.Err() != nil {
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
// ErrShards.
func (s *Stage) meet(ctx context.Context) error {
	var wait backoff
	for {
		shards, err := s.b.shards(ctx)
		switch {
		case err == nil && s.cfg.Writers > len(shards):
			return fmt.Errorf("stage %s: %w: %d writers, and the pipeline has %d; a single Redis has 1", s.cfg.Name, ErrShards, s.cfg.Writers, len(shards))
		case err == nil:
			s.enlist(shards)
			return nil
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrCluster):
			return err
		}
		if s.before.shut(redisAway, "", err) && s.b.denied() == nil { // what is denied was logged
			s.log.Warn("waiting for redis", "err", err)
		}
		wait.wait(ctx)
	}
}

// run joins, and reads until ctx ends.
func (s *lane) run(ctx, live context.Context) {
	starts, err := s.join(ctx, true)
	if err != nil {
		return // ctx has ended
	}
	s.joined = true
	s.gate.open(starting, "")
	if s.index == 0 {
		s.log.Info("reading", "channel", s.cfg.In, "consumer", s.name)
	}
	s.chores.Go(func() { s.tickLoop(live) })
	if s.divided() {
		s.readOwn(ctx, starts)
		s.readRest(live)
	} else {
		s.readLoop(ctx, starts)
	}
}

// running are the goroutines of a Run, and what ends them. Draining goes on after the signal that
// ended Run's own context, which therefore ends only reading and the wish to adopt.
type running struct {
	s                          *Stage
	live, handling             context.Context // handling: of handler calls; live: of everything else
	end                        context.CancelFunc
	endHandling                context.CancelCauseFunc
	workers, settlers, adopter sync.WaitGroup // all others are in s.chores
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
					s.chores.Go(func() { f.look(ctx) })
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
	r.s.chores.Wait()
}

// later calls f after d, unless ctx ends first.
func (s *lane) later(ctx context.Context, d time.Duration, f func()) {
	s.chores.Go(func() {
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
func (s *lane) join(ctx context.Context, first bool) (starts int, err error) {
	var wait backoff
	for {
		reply, err := s.tryJoin(ctx, first)
		switch {
		case err == nil:
			s.gate.open(redisAway, "")
			if reply.Made {
				s.log.Info("made the group", "channel", s.cfg.In)
			}
			return reply.Starts, nil
		case ctx.Err() != nil:
			return 0, ctx.Err()
		}
		if s.gate.shut(redisAway, "", err) && s.b.denied() == nil { // what is denied was logged
			s.log.Warn("waiting for redis", "err", err)
		}
		wait.wait(ctx)
	}
}

// joinReply is the script's reply, as its header says.
type joinReply struct {
	Made   bool
	Starts int
}

func (s *lane) tryJoin(ctx context.Context, first bool) (reply joinReply, err error) {
	about, err := json.Marshal(registration{In: s.cfg.In, Out: s.cfg.Out, Optional: s.cfg.Optional})
	if err != nil {
		return reply, err
	}
	policy, start, lasting := "required", "", ""
	if s.cfg.Optional {
		policy = "optional"
	}
	if first {
		start = "1"
	}
	if s.lasting {
		lasting = "1"
	}
	k := s.keys
	err = s.link.RunJSON(ctx, &reply, script.Join,
		[]string{k.Stream(s.cfg.In), k.Groups(s.cfg.In), k.Floors(s.cfg.In), k.Stages(), k.Consumer(s.cfg.Name, s.name)},
		s.cfg.Name, s.name, policy, s.b.opt.Lease.Milliseconds(), string(about), lasting, start)
	return reply, err
}

// leave hands back what is pending and deletes the consumer. A lasting consumer keeps both, but for
// a shard of a cluster that is not its own, or no longer.
func (s *lane) leave(ctx context.Context) error {
	if !s.joined {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if s.lasting {
		_ = s.survived(ctx) // an error is no harm: the next start handles what is pending alone
		if !s.divided() {
			return nil
		}
		if s.owns() {
			if err := s.giveBefore(ctx, giveWithin); err != nil {
				s.log.Warn("the shard stays with this writer, and waits for it", "shard", s.index, "consumer", s.name, "err", err)
				return nil
			}
		}
	}
	var wait backoff
	for {
		n, err := s.link.RunInt(ctx, script.Leave, []string{s.keys.Stream(s.cfg.In)}, s.cfg.Name, s.name, 128, s.maxDead)
		switch {
		case err != nil:
			if !errors.Is(err, ErrUnavailable) || !wait.wait(ctx) {
				return fmt.Errorf("stage %s: hand back what is unfinished: %w", s.cfg.Name, err)
			}
		case n == 0:
			return nil
		default:
			s.log.Info("handed back", "entries", n)
		}
	}
}
