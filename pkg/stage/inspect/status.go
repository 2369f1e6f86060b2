package inspect

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/internal/entry"
	"github.com/milepost/milepost/pkg/stage/internal/link"
	"github.com/milepost/milepost/pkg/stage/internal/script"
)

// StageInfo is what a stage or publisher registered when it last started.
type StageInfo struct {
	Name     string         `json:"name"`
	In       string         `json:"in,omitempty"` // "" for a publisher
	Out      []stage.Output `json:"out,omitempty"`
	Optional bool           `json:"optional,omitempty"`
}

// ChannelStatus is a channel's stream and the groups that read it.
type ChannelStatus struct {
	Channel string        `json:"channel"`
	Kind    string        `json:"kind"`            // of the key in Redis: "stream", "none", or a wrong type
	Wrong   []string      `json:"wrong,omitempty"` // sentences about its keys of a wrong type, of which nothing is known
	Entries int           `json:"entries"`         // in the stream, with settled ones not yet trimmed
	Added   int           `json:"added"`           // entries ever added
	Rate    *float64      `json:"rate"`            // entries added a second; nil unless an [Observer] sets it
	Dead    int           `json:"dead"`            // dead letters
	Due     int           `json:"due"`             // retries not yet due
	Adopted bool          `json:"adopted"`         // some consumer adopts
	Groups  []GroupStatus `json:"groups"`
	Foreign []Foreign     `json:"foreign,omitempty"` // groups that other programs made
	newest  string        // ID of the last entry ever added
}

// GroupStatus is a consumer group of a channel.
type GroupStatus struct {
	Name        string           `json:"name"`
	Optional    bool             `json:"optional"`
	Backlog     int              `json:"backlog"`                // entries not settled
	Pending     int              `json:"pending"`                // of these, delivered to a consumer
	Oldest      time.Time        `json:"oldest,omitzero"`        // time of the oldest unsettled entry
	OldestEvent string           `json:"oldest_event,omitempty"` // its event ID
	Settled     int              `json:"settled"`                // entries ever settled
	Rate        *float64         `json:"rate"`                   // entries settled a second, or nil
	Lost        int              `json:"lost"`                   // entries trimmed unsettled
	Consumers   []ConsumerStatus `json:"consumers"`
	// Writer is the consumer that a shard of a Redis Cluster belongs to, if consumers are
	// lasting. The sum of the shards has none.
	Writer string `json:"writer,omitempty"`
}

// Foreign is a consumer group that another program made on a channel.
type Foreign struct {
	Name string `json:"name"`
	// Policy is "required" ([Pipeline.AwaitGroup]), "ignored" ([Pipeline.IgnoreGroup]) or "":
	// trimming waits for it as for an optional group.
	Policy    string    `json:"policy"`
	Backlog   int       `json:"backlog"` // entries it has not acked, as Redis guesses
	Lost      int       `json:"lost"`    // entries trimmed before it acked them, at most
	Consumers int       `json:"consumers"`
	Oldest    time.Time `json:"oldest,omitzero"` // time of the oldest entry that it has not acked
}

// ConsumerStatus is one process in a group.
type ConsumerStatus struct {
	Name    string `json:"name"`
	Pending int    `json:"pending"`
	// State is "alive", "gone" (its entries will be requeued) or "away" (a lasting one, not
	// running).
	State string `json:"state"`
	// Obstacle is what keeps one that is alive from working, and Why its cause. "paused": a
	// dependency is down; "held up": an output is full;
	// "adoption": Redis is full, bare PUBLISHes wait; others: "redis", "starting", …
	Obstacle string `json:"obstacle,omitempty"`
	Why      string `json:"why,omitempty"`
}

// Overview is a pipeline at one moment: its stages and publishers, and all channels that they
// registered. Both are in the order in which an event passes them.
type Overview struct {
	At       time.Time       `json:"at"` // Redis' clock
	Prefix   string          `json:"prefix,omitempty"`
	Stages   []StageInfo     `json:"stages"`
	Channels []ChannelStatus `json:"channels"`
	Shards   []ShardStatus   `json:"shards,omitempty"` // on a Redis Cluster; Channels has the sums
}

// ShardStatus is a shard of a pipeline on a Redis Cluster.
type ShardStatus struct {
	Shard    int             `json:"shard"`
	Away     string          `json:"away,omitempty"` // why its master does not answer; then nothing else is known of it
	Channels []ChannelStatus `json:"channels,omitempty"`
	at       time.Time       // its master's clock
}

// Stages lists the registered stages and publishers, by name. It needs one shard.
func (p *Pipeline) Stages(ctx context.Context) ([]StageInfo, error) {
	links, err := p.b.Shards(ctx)
	if err != nil {
		return nil, err
	}
	return registered(ctx, links, make([]error, len(links)))
}

// registered asks each link, see some.
func registered(ctx context.Context, links []*link.Link, errs []error) ([]StageInfo, error) {
	found := make([]map[string]string, len(links))
	err := some(ctx, links, errs, func(ctx context.Context, i int, l *link.Link) (err error) {
		found[i], err = l.Client().HGetAll(ctx, l.Keys.Stages()).Result()
		if err = l.Check(ctx, err); errors.Is(err, stage.ErrRefused) {
			err = fmt.Errorf("read the key %s: %w", l.Keys.Stages(), err)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, here := range found {
		maps.Copy(all, here)
	}
	out := make([]StageInfo, 0, len(all))
	for name, about := range all {
		s := StageInfo{Name: name}
		if err := json.Unmarshal([]byte(about), &s); err != nil {
			return nil, fmt.Errorf("registration of stage %s: %w", name, err)
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b StageInfo) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Channels lists the registered channels, by name.
func (p *Pipeline) Channels(ctx context.Context) ([]string, error) {
	stages, err := p.Stages(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, s := range stages {
		if s.In != "" {
			out = append(out, s.In)
		}
		for _, o := range s.Out {
			out = append(out, o.Channel)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// Status reads the state of a channel: on a Redis Cluster the sums of all shards.
func (p *Pipeline) Status(ctx context.Context, channel string) (ChannelStatus, error) {
	links, err := p.b.Shards(ctx)
	if err != nil {
		return ChannelStatus{}, err
	}
	shards := make([]ShardStatus, len(links))
	errs := gather(links, func(i int, l *link.Link) (err error) {
		shards[i].at, shards[i].Channels, err = look(ctx, l, channel)
		return err
	})
	if err := cmp.Or(errs...); err != nil {
		return ChannelStatus{}, err
	}
	return sum(shards, 0), nil
}

// Overview reads the state of the whole pipeline in two round trips. On a Redis Cluster, shards
// that are away are left out, and Shards says so; it is an error if all are.
func (p *Pipeline) Overview(ctx context.Context) (Overview, error) {
	links, err := p.b.Shards(ctx)
	if err != nil {
		return Overview{}, err
	}
	o, _, err := overview(ctx, links)
	return o, err
}

// overview also returns what each shard has: of a single Redis, the whole.
func overview(ctx context.Context, links []*link.Link) (o Overview, shards []ShardStatus, err error) {
	errs := make([]error, len(links))
	stages, err := registered(ctx, links, errs)
	if err != nil {
		return o, nil, err
	}
	o = Overview{Stages: inFlow(stages), Prefix: links[0].Keys.Prefix}
	var channels []string
	name := func(channel string) {
		if channel != "" && !slices.Contains(channels, channel) {
			channels = append(channels, channel)
		}
	}
	for _, s := range o.Stages {
		name(s.In)
	}
	for _, s := range o.Stages {
		for _, out := range s.Out {
			name(out.Channel)
		}
	}
	shards = make([]ShardStatus, len(links))
	err = some(ctx, links, errs, func(ctx context.Context, i int, l *link.Link) (err error) {
		shards[i].at, shards[i].Channels, err = look(ctx, l, channels...)
		return err
	})
	if err != nil {
		return o, nil, err
	}
	for i := range shards {
		shards[i].Shard = i
		if errs[i] != nil {
			shards[i].Away = errs[i].Error()
		} else if o.At.IsZero() {
			o.At = shards[i].at
		}
	}
	for i := range channels {
		o.Channels = append(o.Channels, sum(shards, i))
	}
	if links[0].Name != "" {
		o.Shards = shards
	}
	return o, shards, nil
}

// Channel returns the status of a channel, and whether it is registered.
func (o Overview) Channel(name string) (ChannelStatus, bool) {
	i := slices.IndexFunc(o.Channels, func(c ChannelStatus) bool { return c.Channel == name })
	if i < 0 {
		return ChannelStatus{}, false
	}
	return o.Channels[i], true
}

// Writer is the consumer of a stage that the shard belongs to, "" for none.
func (s ShardStatus) Writer(stage string) string {
	for _, c := range s.Channels {
		for _, g := range c.Groups {
			if g.Name == stage && g.Writer != "" {
				return g.Writer
			}
		}
	}
	return ""
}

// WrongKey is a key of the pipeline that another program made: its type is Is, not Want.
type WrongKey struct{ Key, Is, Want string }

// WrongKeys lists those among the keys of the pipeline and of these channels, by name, without keys
// that this user has no right to.
func (p *Pipeline) WrongKeys(ctx context.Context, channels ...string) ([]WrongKey, error) {
	links, err := p.b.Shards(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]struct{ Wrong []WrongKey }, len(links))
	errs := gather(links, func(i int, l *link.Link) error {
		var streams []any
		for _, c := range channels {
			streams = append(streams, l.Keys.Stream(c))
		}
		return l.RunJSON(ctx, &all[i], script.Kinds, nil, streams...)
	})
	var wrong []WrongKey
	for _, here := range all {
		wrong = append(wrong, here.Wrong...)
	}
	slices.SortFunc(wrong, func(a, b WrongKey) int { return strings.Compare(a.Key, b.Key) })
	return wrong, cmp.Or(errs...)
}

// consumerReply is what the status script says of a consumer.
type consumerReply struct {
	ConsumerStatus
	Works string // "1", or JSON of what keeps it from working
}

func (r consumerReply) status() ConsumerStatus {
	c := r.ConsumerStatus
	if r.State != "alive" || r.Works == "1" {
		return c
	}
	var said struct{ State, Why string }
	if err := json.Unmarshal([]byte(r.Works), &said); err != nil {
		said.State = r.Works // an earlier version wrote one sentence
	}
	c.Obstacle, c.Why = said.State, said.Why
	return c
}

// look runs the status script and returns Redis' time and a status for each channel.
func look(ctx context.Context, l *link.Link, channels ...string) (time.Time, []ChannelStatus, error) {
	streams := make([]string, len(channels))
	for i, c := range channels {
		streams[i] = l.Keys.Stream(c)
	}
	var r struct {
		At       int64
		Channels []struct {
			ChannelStatus
			Newest  string
			Foreign []struct {
				Foreign
				OldestEntry string `json:"oldest_entry"`
			} `json:"foreign"`
			Groups []struct {
				GroupStatus
				OldestEntry string          `json:"oldest_entry"`
				Consumers   []consumerReply `json:"consumers"`
			} `json:"groups"`
		}
	}
	if err := l.RunJSON(ctx, &r, script.Status, streams); err != nil {
		return time.Time{}, nil, err
	}
	all := make([]ChannelStatus, len(channels))
	for i, found := range r.Channels {
		c := &all[i]
		*c = found.ChannelStatus
		c.Channel, c.newest = channels[i], found.Newest
		for _, group := range found.Groups {
			g := group.GroupStatus
			g.Oldest = entry.Time(group.OldestEntry)
			for _, consumer := range group.Consumers {
				g.Consumers = append(g.Consumers, consumer.status())
			}
			slices.SortFunc(g.Consumers, func(a, b ConsumerStatus) int { return strings.Compare(a.Name, b.Name) })
			c.Groups = append(c.Groups, g)
		}
		for _, group := range found.Foreign {
			f := group.Foreign
			f.Oldest = entry.Time(group.OldestEntry)
			c.Foreign = append(c.Foreign, f)
		}
		slices.SortFunc(c.Foreign, func(a, b Foreign) int { return strings.Compare(a.Name, b.Name) })
		slices.SortFunc(c.Groups, func(a, b GroupStatus) int { return strings.Compare(a.Name, b.Name) })
	}
	return time.UnixMilli(r.At), all, nil
}

// inFlow sorts stages in the order in which an event passes them, and by name within a depth.
func inFlow(stages []StageInfo) []StageInfo {
	depths := Depths(stages)
	slices.SortFunc(stages, func(a, b StageInfo) int {
		return cmp.Or(cmp.Compare(depths[a.Name], depths[b.Name]), strings.Compare(a.Name, b.Name))
	})
	return stages
}

// Depths returns how many stages are before each, on the longest way without a loop, by name.
func Depths(stages []StageInfo) map[string]int {
	depths, open := map[string]int{}, map[string]bool{}
	var visit func(s StageInfo) int
	visit = func(s StageInfo) int {
		if d, known := depths[s.Name]; known {
			return d
		}
		if open[s.Name] {
			return -1 // a loop
		}
		open[s.Name] = true
		depth := 0
		for _, before := range stages {
			if s.In != "" && slices.ContainsFunc(before.Out, func(o stage.Output) bool { return o.Channel == s.In }) {
				depth = max(depth, visit(before)+1)
			}
		}
		open[s.Name] = false
		depths[s.Name] = depth
		return depth
	}
	for _, s := range stages {
		visit(s)
	}
	return depths
}
