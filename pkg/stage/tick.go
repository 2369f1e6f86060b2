package stage

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/internal/entry"
	"github.com/milepost/milepost/pkg/stage/internal/link"
	"github.com/milepost/milepost/pkg/stage/internal/poison"
	"github.com/milepost/milepost/pkg/stage/internal/script"
)

const (
	tickEvery   = time.Second
	tickTimeout = time.Second
	tickAgain   = 100 * time.Millisecond // after a call that failed
	moveMost    = 256                    // entries that one tick moves; if there are more, the next tick follows at once
)

// tickReply is the script's reply, as its header says.
type tickReply struct {
	Known, More                                  bool
	Adopter                                      string
	Full                                         []int
	Backlog, Pending, Due, Dead, Lost, Consumers int
	Oldest                                       string
	Writer                                       string
	Waits                                        bool
	waiting                                      int   // shards, of the sum of several
	whole                                        bool  // the sum has all shards
	TakenOver                                    int   `json:"taken_over"`
	AllConsumers                                 int64 `json:"all_consumers"`
	At, Next                                     int64
}

// ticker runs the tick script. Its client is its own, so that a call that is late goes on over a
// new connection, and not over an old one of the pool that is as dead.
type ticker struct {
	s      *lane
	link   *link.Link
	via    link.Via
	keys   []string
	unread string
	close  func() error
	seen   int64     // Redis' time of the last tick, ms; 0 if there was none
	last   time.Time // the same by our clock
}

func (s *lane) newTicker() *ticker {
	keys := []string{s.keys.Stream(s.cfg.In), s.keys.Consumer(s.cfg.Name, s.name), s.keys.Adopter(s.cfg.In)}
	var unread strings.Builder
	for _, o := range s.cfg.Out {
		keys = append(keys, s.keys.Stream(o.Channel))
		if o.Unread {
			unread.WriteByte('1')
		} else {
			unread.WriteByte('0')
		}
	}
	t := &ticker{s: s, keys: keys, unread: unread.String(), close: func() error { return nil }}
	if s.cluster != nil {
		t.via, t.link = s.cluster.together(s.index), s.link.Through(s.link.Client, tickTimeout+tickGather)
		return t
	}
	o := *s.link.Client().Options()
	o.MaxRetries, o.DialTimeout, o.PoolTimeout = -1, tickTimeout, tickTimeout
	c := redis.NewClient(&o)
	t.via, t.link, t.close = link.Over(c), s.link.Through(func() *redis.Client { return c }, tickTimeout), c.Close
	return t
}

// tickLoop runs the tick script once a second until ctx ends: it does all chores of this consumer.
func (s *lane) tickLoop(ctx context.Context) {
	t := s.newTicker()
	defer t.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	survived := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.poke: // a retry of this process is due before the next tick
		}
		again := t.tick(ctx)
		if s.lasting && !survived {
			survived = s.replay.done() && s.survived(ctx) == nil // after an error the next start tries again
		}
		timer.Reset(again)
	}
}

// tick runs the script once and returns the time until the next one.
func (t *ticker) tick(ctx context.Context) time.Duration {
	s, lasting, every := t.s, "", min(tickEvery, t.s.b.opt.Lease/3)
	if s.lasting {
		lasting = "1"
	}
	var r tickReply
	err := t.link.RunJSONVia(ctx, t.via, &r, script.Tick, t.keys, s.cfg.Name, s.name, s.b.opt.Lease.Milliseconds(), s.token.Load(),
		s.maxBacklog, s.maxDead, poison.MaxCrashes, moveMost, t.unread, lasting, s.works(), t.seen)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, ErrUnavailable) && s.gate.shut(chores, "", err) {
			s.log.Error("redis refuses the chores; not reading", "err", err)
		}
		if time.Since(t.last) < s.b.opt.Lease {
			every = min(every, tickAgain) // a Redis that comes back soon must not notice
		}
		return every
	}
	if !r.Known {
		if s.gate.ready() == nil {
			s.log.Warn("redis does not know this consumer or its group any more; joining again", "consumer", s.name)
		}
		_, _ = s.join(ctx, false)
		return every
	}
	s.gate.open(chores, "")
	t.seen, t.last = r.At, time.Now()
	s.ticked(&r)
	switch {
	case r.More:
		return 0
	case r.Next > 0:
		return min(every, time.Duration(r.Next+1)*time.Millisecond)
	}
	if s.cluster != nil { // all lanes of this process tick at the same moments
		every -= time.Since(born) % every
	}
	return every
}

var born = time.Now()

// ticked takes in the script's reply.
func (s *lane) ticked(r *tickReply) {
	if r.Adopter == "free" {
		select {
		case s.free <- struct{}{}:
		default:
		}
	}
	for i, o := range s.cfg.Out {
		s.pressed(o.Channel, slices.Contains(r.Full, i+1))
	}
	if r.TakenOver > 0 {
		if s.index == 0 { // a consumer is in all shards, and is counted once
			s.m.takenOver.Add(float64(r.TakenOver))
		}
		s.log.Warn("took over from consumers that are gone", "consumers", r.TakenOver)
	}
	s.known.Store(r.AllConsumers)
	if s.divided() {
		s.waits.Store(r.Waits)
		s.told(r.Writer)
	}
	s.count(r)
}

// count shows the figures of all lanes as one.
func (s *lane) count(r *tickReply) {
	s.figures.Lock()
	defer s.figures.Unlock()
	s.last = *r
	all := tickReply{whole: true}
	for _, l := range s.all() {
		all.add(&l.last)
		all.whole = all.whole && l.last.At > 0
	}
	s.m.figures(&all)
}

// add adds the figures of another shard.
func (r *tickReply) add(o *tickReply) {
	r.Backlog += o.Backlog
	r.Pending += o.Pending
	r.Due += o.Due
	r.Dead += o.Dead
	r.Lost += o.Lost
	if o.Waits {
		r.waiting++
	}
	r.Consumers = max(r.Consumers, o.Consumers) // they are the same in each shard
	if r.Oldest == "" || o.Oldest != "" && entry.Before(o.Oldest, r.Oldest) {
		r.Oldest = o.Oldest
	}
}

// works is "1" while the stage works, else JSON of what keeps it from working, for status.
func (s *lane) works() string {
	state, why := s.gate.state()
	if state == "" {
		return "1"
	}
	text, _ := json.Marshal(map[string]string{"state": string(state), "why": why})
	return string(text)
}
