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
	TakenOver                                    int   `json:"taken_over"`
	AllConsumers                                 int64 `json:"all_consumers"`
	At, Next                                     int64
}

// ticker runs the tick script. Its client is its own, so that a call that is late goes on over a
// new connection, and not over an old one of the pool that is as dead.
type ticker struct {
	lane   *lane
	link   *link.Link
	via    link.Via
	keys   []string
	unread string
	close  func() error
	seen   int64     // Redis' time of the last tick, ms; 0 if there was none
	last   time.Time // the same by our clock
}

func (l *lane) newTicker() *ticker {
	keys := []string{l.keys.Stream(l.cfg.In), l.keys.Consumer(l.cfg.Name, l.name), l.keys.Adopter(l.cfg.In)}
	var unread strings.Builder
	for _, o := range l.cfg.Out {
		keys = append(keys, l.keys.Stream(o.Channel))
		if o.Unread {
			unread.WriteByte('1')
		} else {
			unread.WriteByte('0')
		}
	}
	t := &ticker{lane: l, keys: keys, unread: unread.String(), close: func() error { return nil }}
	if l.cluster != nil {
		t.via, t.link = l.cluster.together(l.index), l.link.Through(l.link.Client, tickTimeout+tickGather)
		return t
	}
	o := *l.link.Client().Options()
	o.MaxRetries, o.DialTimeout, o.PoolTimeout = -1, tickTimeout, tickTimeout
	c := redis.NewClient(&o)
	t.via, t.link, t.close = link.Over(c), l.link.Through(func() *redis.Client { return c }, tickTimeout), c.Close
	return t
}

// tickLoop runs the tick script once a second until ctx ends: it does all chores of this consumer.
func (l *lane) tickLoop(ctx context.Context) {
	t := l.newTicker()
	defer t.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	survived := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-l.poke: // a retry of this process is due before the next tick
		}
		again := t.tick(ctx)
		if l.lasting && !survived {
			survived = l.replay.done() && l.survived(ctx) == nil // after an error the next start tries again
		}
		timer.Reset(again)
	}
}

// tick runs the script once and returns the time until the next one.
func (t *ticker) tick(ctx context.Context) time.Duration {
	l, lasting, every := t.lane, "", min(tickEvery, t.lane.b.opt.Lease/3)
	if l.lasting {
		lasting = "1"
	}
	var r tickReply
	err := t.link.RunJSONVia(ctx, t.via, &r, script.Tick, t.keys, l.cfg.Name, l.name, l.b.opt.Lease.Milliseconds(), l.token.Load(),
		l.maxBacklog, l.maxDead, poison.MaxCrashes, moveMost, t.unread, lasting, l.works(), t.seen)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, ErrUnavailable) && l.gate.shut(chores, "", err) {
			l.log.Error("redis refuses the chores; not reading", "err", err)
		}
		if time.Since(t.last) < l.b.opt.Lease {
			every = min(every, tickAgain) // a Redis that comes back soon must not notice
		}
		return every
	}
	if !r.Known {
		if l.gate.ready() == nil {
			l.log.Warn("redis does not know this consumer or its group any more; joining again", "consumer", l.name)
		}
		_, _ = l.join(ctx, false)
		return every
	}
	l.gate.open(chores, "")
	t.seen, t.last = r.At, time.Now()
	l.ticked(&r)
	switch {
	case r.More:
		return 0
	case r.Next > 0:
		return min(every, time.Duration(r.Next+1)*time.Millisecond)
	}
	if l.cluster != nil { // all lanes of this process tick at the same moments
		every -= time.Since(born) % every
	}
	return every
}

var born = time.Now()

// ticked takes in the script's reply.
func (l *lane) ticked(r *tickReply) {
	if r.Adopter == "free" {
		nudge(l.free)
	}
	for i, o := range l.cfg.Out {
		l.pressed(o.Channel, slices.Contains(r.Full, i+1))
	}
	if r.TakenOver > 0 {
		if l.index == 0 { // a consumer is in all shards, and is counted once
			l.m.takenOver.Add(float64(r.TakenOver))
		}
		l.log.Warn("took over from consumers that are gone", "consumers", r.TakenOver)
	}
	l.known.Store(r.AllConsumers)
	if l.divided() {
		l.waits.Store(r.Waits)
		l.told(r.Writer)
	}
	l.count(r)
}

// count shows the figures of all lanes as one.
func (l *lane) count(r *tickReply) {
	l.figures.Lock()
	defer l.figures.Unlock()
	l.last = *r
	var all tickReply
	waiting, whole := 0, true
	for _, x := range l.all() {
		all.add(&x.last)
		whole = whole && x.last.At > 0
		if x.last.Waits {
			waiting++
		}
	}
	l.m.figures(&all, waiting, whole)
}

// add adds the figures of another shard.
func (r *tickReply) add(o *tickReply) {
	r.Backlog += o.Backlog
	r.Pending += o.Pending
	r.Due += o.Due
	r.Dead += o.Dead
	r.Lost += o.Lost
	r.Consumers = max(r.Consumers, o.Consumers) // they are the same in each shard
	if r.Oldest == "" || o.Oldest != "" && entry.Before(o.Oldest, r.Oldest) {
		r.Oldest = o.Oldest
	}
}

// works is "1" while the stage works, else JSON of what keeps it from working, for status.
func (l *lane) works() string {
	state, why := l.gate.state()
	if state == "" {
		return "1"
	}
	text, _ := json.Marshal(map[string]string{"state": string(state), "why": why})
	return string(text)
}
