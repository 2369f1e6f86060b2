package inspect

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/milepost/milepost/pkg/stage/internal/entry"
	"github.com/milepost/milepost/pkg/stage/internal/link"
)

const (
	observeMost = 100              // dead letters and retries of a channel that an Observer reads
	rateOver    = 10 * time.Second // the time over which rates are taken, at most
)

// Seen is what an [Observer] read: an Overview with rates, dead letters and retries.
type Seen struct {
	Overview
	Dead    []DeadLetter `json:"dead"`    // the newest 100 of each channel, without payloads
	Retries []Retry      `json:"retries"` // the next 100 of each channel
}

// DeadOf counts a group's dead letters among those read. more means that the channel has others.
func (s Seen) DeadOf(channel, group string) (n int, more bool) {
	c, _ := s.Channel(channel)
	return share(s.Dead, c.Dead, func(d DeadLetter) (bool, bool) { return d.Channel == channel, d.Group == group })
}

// RetriesOf counts a group's retries among those read. more means that the channel has others.
func (s Seen) RetriesOf(channel, group string) (n int, more bool) {
	c, _ := s.Channel(channel)
	return share(s.Retries, c.Due, func(r Retry) (bool, bool) { return r.Channel == channel, r.Group == group })
}

// share counts those of a channel's group, and tells whether all, the channel's, are more than
// read.
func share[T any](read []T, all int, of func(T) (channel, group bool)) (n int, more bool) {
	for _, x := range read {
		channel, group := of(x)
		if channel {
			all--
		}
		if channel && group {
			n++
		}
	}
	return n, all > 0
}

// Observer reads the state of a pipeline for any number of viewers. Its methods are safe for
// concurrent use.
type Observer struct {
	p     *Pipeline
	fresh time.Duration

	mu      sync.Mutex
	asked   time.Time
	last    Seen
	err     error
	history []Overview // of the last rateOver, oldest first
}

// Observer makes an observer. Calls of Observe within fresh of the last one share its answer.
func (p *Pipeline) Observer(fresh time.Duration) *Observer { return &Observer{p: p, fresh: fresh} }

// Observe reads the state, or returns what was read less than fresh ago, an error included. It
// waits while another call reads. The first answer has no rates.
func (o *Observer) Observe(ctx context.Context) (Seen, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if ctx.Err() != nil {
		return Seen{}, ctx.Err()
	}
	if !o.asked.IsZero() && time.Since(o.asked) < o.fresh {
		return o.last, o.err
	}
	// Other callers share the answer, so it must not fail because this caller's ctx ends.
	call, cancel := link.Within(context.WithoutCancel(ctx), link.CallTimeout)
	defer cancel()
	o.last, o.err = o.look(call)
	o.asked = time.Now()
	return o.last, o.err
}

func (o *Observer) look(ctx context.Context) (Seen, error) {
	now, err := o.p.Overview(ctx)
	if err != nil {
		return Seen{}, err
	}
	o.rates(&now)
	s := Seen{Overview: now}
	for _, c := range now.Channels {
		if c.Dead > 0 {
			letters, err := o.p.newest(ctx, c.Channel, observeMost)
			if err != nil {
				return Seen{}, err
			}
			s.Dead = append(s.Dead, letters...)
		}
		if c.Due > 0 {
			retries, err := o.p.Retries(ctx, c.Channel, observeMost)
			if err != nil {
				return Seen{}, err
			}
			s.Retries = append(s.Retries, retries...)
		}
	}
	slices.SortStableFunc(s.Dead, func(a, b DeadLetter) int { return b.Dead.Compare(a.Dead) })
	slices.SortStableFunc(s.Retries, func(a, b Retry) int { return a.Due.Compare(b.Due) })
	return s, nil
}

// rates sets the rates of now against the oldest look that is not too old.
func (o *Observer) rates(now *Overview) {
	o.history = slices.DeleteFunc(o.history, func(x Overview) bool {
		return now.At.Sub(x.At) > rateOver || !now.At.After(x.At) || // Redis' clock may be set back
			!slices.EqualFunc(now.Shards, x.Shards, func(a, b ShardStatus) bool { return (a.Away == "") == (b.Away == "") })
	})
	if len(o.history) > 0 {
		now.since(o.history[0])
	}
	o.history = append(o.history, *now)
}

// since sets the rates since an earlier overview. A counter that is lower now was reset, so there
// is no rate.
func (o *Overview) since(before Overview) {
	seconds := o.At.Sub(before.At).Seconds()
	rate := func(now, then int) *float64 {
		if now < then {
			return nil
		}
		r := float64(now-then) / seconds
		return &r
	}
	o.Channels = slices.Clone(o.Channels)
	for i := range o.Channels {
		c := &o.Channels[i]
		old, _ := before.Channel(c.Channel)
		if c.Added != old.Added || c.newest == old.newest { // else Redis does not count added entries
			c.Rate = rate(c.Added, old.Added)
		}
		c.Groups = slices.Clone(c.Groups)
		for j := range c.Groups {
			g := &c.Groups[j]
			k := slices.IndexFunc(old.Groups, func(x GroupStatus) bool { return x.Name == g.Name })
			if k >= 0 {
				g.Rate = rate(g.Settled, old.Groups[k].Settled)
			}
		}
	}
}

// Retry is an event that a stage will try again.
type Retry struct {
	Channel string    `json:"channel"`
	Group   string    `json:"group"`
	ID      string    `json:"id"` // event ID
	Tries   int       `json:"tries"`
	Crashes int       `json:"crashes"`
	Error   string    `json:"error"` // of the last try
	At      time.Time `json:"at"`    // submission
	Due     time.Time `json:"due"`
	from    string    // entry ID of the entry that failed
}

// Retries reads up to count retries of channel that are not yet due, the next first. It leaves out
// a shard that is away, unless all are.
func (p *Pipeline) Retries(ctx context.Context, channel string, count int) ([]Retry, error) {
	links, err := p.b.Shards(ctx)
	if err != nil {
		return nil, err
	}
	all := make([][]Retry, len(links))
	err = some(ctx, links, make([]error, len(links)), func(ctx context.Context, i int, l *link.Link) error {
		found, err := l.Client().ZRangeWithScores(ctx, l.Keys.Due(channel), 0, int64(count)-1).Result()
		all[i] = make([]Retry, 0, len(found))
		for _, z := range found {
			all[i] = append(all[i], retryOf(channel, text(z.Member), z.Score))
		}
		return l.Check(ctx, err)
	})
	return merged(all, count, func(a, b Retry) int { return a.Due.Compare(b.Due) }), err
}

// retryOf reads a member of the sorted set of retries: the entry's fields as netstrings.
func retryOf(channel, member string, due float64) Retry {
	fields := entry.Unpack(member)
	r := Retry{Channel: channel, Due: time.UnixMilli(int64(due))}
	var e entry.Entry
	for i := 0; i+1 < len(fields); i += 2 {
		switch fields[i] {
		case "error":
			r.Error = fields[i+1]
		case "from":
			r.from = fields[i+1]
		default:
			e.Field(fields[i], fields[i+1])
		}
	}
	e.EntryID = r.from
	e.Complete()
	r.Group, r.ID, r.Tries, r.Crashes, r.At = e.For, e.EventID, e.Tries, e.Crashes, e.Submitted()
	return r
}
