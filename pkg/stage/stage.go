package stage

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/milepost/milepost/pkg/stage/internal/link"
	"github.com/milepost/milepost/pkg/stage/internal/script"
)

// Stage is a handler at work on a channel.
type Stage struct {
	b       *Broker
	cfg     Config
	h       Handler
	log     *slog.Logger
	name    string // of the consumer
	lasting bool   // the consumer's name outlives this process
	outputs map[string]int
	m       *stageMetrics

	queue *queue
	held  held
	out   settlements
	gate  gate
	probe sync.Mutex // one probe at a time

	poke  chan struct{} // asks for a tick now
	free  chan struct{} // tick saw that nobody adopts
	token atomic.Value  // string: our adoption's token, "" if none
	known atomic.Int64  // consumers of the channel's groups that the last tick saw
}

// names are safe in keys, channels, JSON and metric labels.
var names = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)
var channels = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$`)

// New makes a stage; it does nothing until Run. An error names the field of c that cannot work.
func (b *Broker) New(c Config, h Handler) (*Stage, error) {
	def(&c.Prefetch, 1024)
	def(&c.Timeout, 30*time.Second)
	def(&c.MaxTries, 8)
	def(&c.BackoffMin, 200*time.Millisecond)
	def(&c.BackoffMax, 5*time.Minute)
	def(&c.Drain, 10*time.Second)
	if c.Workers == 0 {
		c.Workers = 64
		if h.max > 1 {
			c.Workers = 1
		}
	}
	switch {
	case !names.MatchString(c.Name):
		return nil, fmt.Errorf("stage: Config.Name %q: letters, digits, '_', '-' and '.', at most 64", c.Name)
	case !channels.MatchString(c.In):
		return nil, fmt.Errorf("stage %s: Config.In %q is not a channel name", c.Name, c.In)
	case h.call == nil:
		return nil, fmt.Errorf("stage %s: the handler is missing", c.Name)
	case c.Workers < 1 || c.Prefetch < 1 || c.MaxTries < 1:
		return nil, fmt.Errorf("stage %s: Workers %d, Prefetch %d and MaxTries %d must be positive", c.Name, c.Workers, c.Prefetch, c.MaxTries)
	case c.Consumer != "" && !names.MatchString(c.Consumer):
		return nil, fmt.Errorf("stage %s: Config.Consumer %q: letters, digits, '_', '-' and '.', at most 64", c.Name, c.Consumer)
	}
	s := &Stage{
		b: b, cfg: c, h: h, log: b.log.With("stage", c.Name),
		name: c.Consumer, lasting: c.Consumer != "",
		outputs: map[string]int{}, m: b.metrics.stage(c.Name),
		queue: newQueue(c.MaxTries), free: make(chan struct{}, 1), poke: make(chan struct{}, 1),
	}
	s.token.Store("")
	s.gate.init()
	s.out.init()
	s.held.init(c.Prefetch)
	if !s.lasting {
		s.name = consumerName()
	}
	for i, o := range c.Out {
		if _, twice := s.outputs[o.Channel]; twice || !channels.MatchString(o.Channel) || o.Channel == c.In {
			return nil, fmt.Errorf("stage %s: output %q is not a channel name, or stands there twice, or is its own input", c.Name, o.Channel)
		}
		s.outputs[o.Channel] = i + 1
	}
	s.gate.shut("starting", errors.New("starting"))
	return s, nil
}

// consumerName is "<host>-<pid>-<random>".
func consumerName() string {
	host, err := os.Hostname()
	if err != nil || !names.MatchString(host) {
		host = "host"
	}
	if len(host) > 40 {
		host = host[:40]
	}
	var r [4]byte
	_, _ = rand.Read(r[:])
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), hex.EncodeToString(r[:]))
}

// Name is the stage's name.
func (s *Stage) Name() string { return s.cfg.Name }

// Ready is nil while the stage works, else it says what it waits for ("redis is away: …", "paused: mongo: …").
func (s *Stage) Ready() error { return s.gate.why() }

// Run reads, handles and settles until ctx is cancelled, then drains: it stops reading, finishes what it holds (Drain at
// most), settles it, hands the rest back for another replica and returns nil. It returns an error only for what waiting
// cannot mend; outages of Redis are waited out, however long.
func (s *Stage) Run(ctx context.Context) error {
	leaving, left := s.b.mine.enter(s.cfg.In)
	defer left()
	defer leaving()
	defer context.AfterFunc(ctx, leaving)()
	starts, err := s.join(ctx, true)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	s.gate.open("starting")
	s.log.Info("reading", "channel", s.cfg.In, "consumer", s.name)

	// What drains works on a context that outlives the signal, handlers until the drain's end and settling a little more.
	live, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	handling, stopHandling := context.WithCancelCause(live)
	defer stopHandling(nil)

	var chores, workers, settling sync.WaitGroup
	for range settleAtOnce {
		settling.Go(func() { s.settleLoop(live) })
	}
	for range s.cfg.Workers {
		workers.Go(func() { s.work(handling, &workers) })
	}
	ticking, stopTicking := context.WithCancel(live)
	defer stopTicking()
	chores.Go(func() { s.tickLoop(ticking) })
	var adopting errgroup.Group
	if !s.cfg.NoAdopt {
		adopting.Go(func() error { s.adoptLoop(ctx, live); return nil })
	}

	err = s.readLoop(ctx, starts)

	drain, drained := context.WithTimeout(live, s.cfg.Drain)
	defer drained()
	s.gate.shut("draining", errors.New("draining"))
	s.queue.idle(drain)
	stopHandling(errDrained)
	s.queue.close()
	s.waitWorkers(&workers)
	s.out.close()
	forced := context.AfterFunc(drain, func() { time.AfterFunc(time.Second, end) }) // settling what was finished may take a moment more
	settling.Wait()
	forced()
	_ = adopting.Wait()
	stopTicking()
	chores.Wait()
	last, done := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer done()
	if left := s.leave(last); left != nil && err == nil {
		err = fmt.Errorf("stage %s: hand back what is unfinished: %w", s.cfg.Name, left)
	}
	s.log.Info("stopped", "consumer", s.name)
	return err
}

var errDrained = errors.New("the drain's time is over")

// waitWorkers waits for handler calls to end, a second at most once their context is cancelled.
func (s *Stage) waitWorkers(workers *sync.WaitGroup) {
	ended := make(chan struct{})
	go func() { workers.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(time.Second):
		s.log.Warn("a handler ignores its context; its entries are handed back")
	}
}

// registration is what the stage tells of itself in the hash of stages.
type registration struct {
	In       string   `json:"in,omitempty"`
	Out      []Output `json:"out,omitempty"`
	Optional bool     `json:"optional,omitempty"`
}

// join makes the consumer, its group and its stage known, and waits while Redis is away. first marks the start of this
// process. It returns how often a lasting consumer has started without getting through what it already held.
func (s *Stage) join(ctx context.Context, first bool) (starts int, err error) {
	about, err := json.Marshal(registration{In: s.cfg.In, Out: s.cfg.Out, Optional: s.cfg.Optional})
	if err != nil {
		return 0, err
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
	var wait backoff
	for told := false; ; {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		err = nil // of the attempt before
		if first {
			err = s.b.refuseCluster(call)
		}
		var reply []any
		if err == nil {
			reply, err = s.b.link.Run(call, script.Join,
				[]string{s.b.keys.Stream(s.cfg.In), s.b.keys.Groups(s.cfg.In), s.b.keys.Floors(s.cfg.In), s.b.keys.Stages(), s.b.keys.Consumer(s.cfg.Name, s.name)},
				s.cfg.Name, s.name, policy, s.b.opt.Lease.Milliseconds(), string(about), lasting, start)
		}
		cancel()
		if err == nil {
			s.gate.open("redis")
			if link.Int(reply[0]) == 1 {
				s.log.Info("made the group", "channel", s.cfg.In)
			}
			return link.Int(reply[1]), nil
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if errors.Is(err, ErrCluster) {
			return 0, err
		}
		s.gate.shut("redis", err)
		if !told {
			s.log.Warn("waiting for redis", "err", err)
			told = true
		}
		wait.wait(ctx)
	}
}

// leave hands back what is pending and deletes the consumer. A lasting one keeps both.
func (s *Stage) leave(ctx context.Context) error {
	if s.lasting {
		_ = s.survived(ctx) // it did not die, whatever it held; should this fail, it costs the next start some care
		return nil
	}
	var wait backoff
	for {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		reply, err := s.b.link.Run(call, script.Leave, []string{s.b.keys.Stream(s.cfg.In)}, s.cfg.Name, s.name, 128, s.b.opt.MaxDead)
		cancel()
		switch {
		case err != nil:
			if !errors.Is(err, ErrUnavailable) || !wait.wait(ctx) {
				return err
			}
		case link.Int(reply[0]) == 0:
			return nil
		default:
			s.log.Info("handed back", "entries", link.Int(reply[0]))
		}
	}
}
