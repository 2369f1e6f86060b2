package inspect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/internal/entry"
	"github.com/milepost/milepost/pkg/stage/internal/link"
)

// Where an event can be, for one stage.
const (
	Waiting  = "waiting"   // in the stream, not read yet
	Pending  = "pending"   // delivered to a consumer and not settled
	Retrying = "retrying"  // failed; due again later
	Aside    = "set aside" // a dead letter
	Settled  = "settled"   // done; its entry is still in the stream
	Unread   = "unread"    // in the stream of a channel that no group reads
)

// Place is where an event is, for one stage.
type Place struct {
	Channel  string    `json:"channel"`
	Group    string    `json:"group,omitempty"` // "" if no group reads the channel
	State    string    `json:"state"`           // one of the constants above
	Entry    string    `json:"entry"`           // entry ID: in the stream, or of the dead letter
	At       time.Time `json:"at"`              // submission
	Since    time.Time `json:"since"`           // when it was added, delivered, failed or set aside
	Due      time.Time `json:"due,omitzero"`    // retrying: when it is tried again
	Consumer string    `json:"consumer,omitempty"`
	Tries    int       `json:"tries"`
	Crashes  int       `json:"crashes"`
	Error    string    `json:"error,omitempty"` // of the last try
}

// findPage is how many entries one call of Find reads: about a millisecond of Redis' time.
const findPage = 500

// Find looks for an event in the streams, retries and dead letters of all registered channels. An
// event that every group has settled is usually not found: its entries are trimmed soon. The
// places are in the order in which an event passes them.
func (p *Pipeline) Find(ctx context.Context, id string) ([]Place, error) {
	links, err := p.b.Shards(ctx)
	if err != nil {
		return nil, err
	}
	o, shards, err := overview(ctx, links)
	if err != nil {
		return nil, err
	}
	if _, err := uuid.Parse(id); err == nil { // else an entry ID may stand for an event without an ID
		i := stage.ShardOf(id, len(links))
		shards = shards[i : i+1]
	}
	s := search{id: id, from: searchFrom(id), n: len(links)}
	for _, x := range shards {
		if x.Away != "" {
			return nil, fmt.Errorf("look for %s: %w: %s", id, stage.ErrUnavailable, x.Away)
		}
	}
	out, err := s.shards(ctx, links, shards)
	if err == nil && len(out) == 0 && s.from != "-" { // another clock may have made the ID
		s.from = "-"
		out, err = s.shards(ctx, links, shards)
	}
	if len(shards) > 1 {
		place := func(p Place) int {
			return slices.IndexFunc(o.Channels, func(c ChannelStatus) bool { return c.Channel == p.Channel })
		}
		slices.SortStableFunc(out, func(a, b Place) int { return place(a) - place(b) })
	}
	return out, err
}

func (s *search) shards(ctx context.Context, links []*link.Link, shards []ShardStatus) (out []Place, err error) {
	for _, x := range shards {
		s.link = links[x.Shard]
		for _, c := range x.Channels {
			if len(c.Wrong) > 0 {
				continue
			}
			places, err := s.channel(ctx, c)
			if err != nil {
				return nil, fmt.Errorf("look for %s in %s: %w", s.id, c.Channel, err)
			}
			for i := range places {
				places[i].Entry = mark(places[i].Entry, x.Shard, s.n)
			}
			out = append(out, places...)
		}
	}
	return out, nil
}

// searchFrom returns the entry ID to begin with. A version 7 UUID has the time at which it was
// made; a minute is left for clocks that differ.
func searchFrom(id string) string {
	u, err := uuid.Parse(id)
	if err != nil || u.Version() != 7 {
		return "-"
	}
	sec, nsec := u.Time().UnixTime()
	return fmt.Sprintf("%d-0", max(0, time.Unix(sec, nsec).Add(-time.Minute).UnixMilli()))
}

type search struct {
	link     *link.Link // of the shard at hand, of n
	n        int
	id, from string
}

func (s *search) channel(ctx context.Context, c ChannelStatus) ([]Place, error) {
	var out []Place
	found, err := s.stream(ctx, s.link.Keys.Stream(c.Channel))
	if err != nil {
		return nil, err
	}
	for _, x := range found {
		places, err := s.groups(ctx, c, x)
		if err != nil {
			return nil, err
		}
		out = append(out, places...)
	}
	retries, err := s.retries(ctx, c.Channel)
	if err != nil {
		return nil, err
	}
	for _, r := range retries {
		out = append(out, Place{
			Channel: c.Channel, Group: r.Group, State: Retrying, Entry: r.from, At: r.At, Since: entry.Time(r.from), Due: r.Due,
			Tries: r.Tries, Crashes: r.Crashes, Error: r.Error,
		})
	}
	letters, err := s.stream(ctx, s.link.Keys.Dead(c.Channel))
	if err != nil {
		return nil, err
	}
	for _, x := range letters {
		d := deadLetter(c.Channel, x)
		out = append(out, Place{
			Channel: c.Channel, Group: d.Group, State: Aside, Entry: d.Entry, At: d.At, Since: d.Dead,
			Tries: d.Tries, Crashes: d.Crashes, Error: d.Error,
		})
	}
	// A retried entry is settled and its successor is elsewhere: only the successor is of
	// interest.
	all := slices.Clone(out)
	out = slices.DeleteFunc(out, func(p Place) bool {
		return p.State == Settled && slices.ContainsFunc(all, func(q Place) bool {
			return q.Group == p.Group && (q.State != Settled || entry.Before(p.Entry, q.Entry))
		})
	})
	slices.SortStableFunc(out, func(a, b Place) int { return strings.Compare(a.Group, b.Group) })
	return out, nil
}

func (s *search) stream(ctx context.Context, key string) (found []redis.XMessage, err error) {
	for from := s.from; ; {
		page, err := s.link.Client().XRangeN(ctx, key, from, "+", findPage).Result()
		if err = s.link.Check(ctx, err); err != nil {
			return nil, err
		}
		for _, x := range page {
			if id := text(x.Values["id"]); id == s.id || x.ID == s.id && id == "" {
				found = append(found, x)
			}
		}
		if len(page) < findPage {
			return found, nil
		}
		from = "(" + page[len(page)-1].ID
	}
}

// retries returns the event's retries. Redis compares, so no others are sent.
func (s *search) retries(ctx context.Context, channel string) (out []Retry, err error) {
	pattern := "*" + strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(s.id) + "*"
	for cursor := uint64(0); ; {
		found, next, err := s.link.Client().ZScan(ctx, s.link.Keys.Due(channel), cursor, pattern, findPage).Result()
		if err = s.link.Check(ctx, err); err != nil {
			return nil, err
		}
		for i := 0; i+1 < len(found); i += 2 {
			var due float64
			if _, err := fmt.Sscan(found[i+1], &due); err != nil {
				continue
			}
			r := retryOf(channel, found[i], due)
			if r.ID == s.id && !slices.Contains(out, r) { // a scan may name a member twice
				out = append(out, r)
			}
		}
		if cursor = next; cursor == 0 {
			return out, nil
		}
	}
}

// groups returns the state of an entry for each group of its channel.
func (s *search) groups(ctx context.Context, c ChannelStatus, x redis.XMessage) ([]Place, error) {
	e := entry.Of(x)
	base := Place{
		Channel: c.Channel, Entry: x.ID, At: e.Submitted(), Since: entry.Time(x.ID), Tries: e.Tries, Crashes: e.Crashes, Error: text(x.Values["error"]),
	}
	if len(c.Groups) == 0 {
		base.State = Unread
		return []Place{base}, nil
	}
	infos, err := s.link.Client().XInfoGroups(ctx, s.link.Keys.Stream(c.Channel)).Result()
	if err = s.link.Check(ctx, err); err != nil {
		return nil, err
	}
	var out []Place
	for _, g := range c.Groups {
		if e.For != "" && e.For != g.Name {
			continue
		}
		p := base
		p.Group, p.State = g.Name, Waiting
		i := slices.IndexFunc(infos, func(x redis.XInfoGroup) bool { return x.Name == g.Name })
		if i >= 0 && !entry.Before(infos[i].LastDeliveredID, x.ID) {
			p.State = Settled
			pending, err := s.link.Client().XPendingExt(ctx, &redis.XPendingExtArgs{Stream: s.link.Keys.Stream(c.Channel), Group: g.Name, Start: x.ID, End: x.ID, Count: 1}).Result()
			if errors.Is(err, redis.Nil) {
				err = nil
			}
			if err = s.link.Check(ctx, err); err != nil {
				return nil, err
			}
			if len(pending) > 0 {
				p.State, p.Consumer, p.Since = Pending, pending[0].Consumer, time.Now().Add(-pending[0].Idle)
			}
		}
		out = append(out, p)
	}
	return out, nil
}
