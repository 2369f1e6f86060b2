package inspect

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/internal/entry"
	"github.com/milepost/milepost/pkg/stage/internal/link"
	"github.com/milepost/milepost/pkg/stage/internal/script"
)

// StageInfo is what a stage or publisher told of itself when it last started.
type StageInfo struct {
	Name     string         `json:"name"`
	In       string         `json:"in,omitempty"` // "" for a publisher
	Out      []stage.Output `json:"out,omitempty"`
	Optional bool           `json:"optional,omitempty"`
}

// ChannelStatus is a channel's stream and the groups that read it.
type ChannelStatus struct {
	Channel  string        `json:"channel"`
	Kind     string        `json:"kind"`    // of the key in Redis: "stream", "none", or something that cannot work
	Entries  int           `json:"entries"` // in the stream, settled ones not yet trimmed included
	Added    int           `json:"added"`   // entries ever added; its growth is the rate
	Rate     *float64      `json:"rate"`    // entries added a second, if it was looked at twice; see [Observer]
	Dead     int           `json:"dead"`
	Due      int           `json:"due"` // retries not yet due
	Adopted  bool          `json:"adopted"`
	Groups   []GroupStatus `json:"groups"`
	newest   string        // ID of the last entry ever added
	lastDead string        // of the last dead letter ever
}

// GroupStatus is a consumer group at work on a channel.
type GroupStatus struct {
	Name        string           `json:"name"`
	Optional    bool             `json:"optional"`
	Backlog     int              `json:"backlog"`                // entries it has not settled
	Pending     int              `json:"pending"`                // of these, delivered to a consumer
	Oldest      time.Time        `json:"oldest,omitzero"`        // when the oldest unsettled entry was added; zero if there is none
	OldestEvent string           `json:"oldest_event,omitempty"` // its event ID, "" if there is none
	Settled     int              `json:"settled"`                // a counter; its growth is the rate
	Rate        *float64         `json:"rate"`                   // entries settled a second, if it was looked at twice
	Lost        int              `json:"lost"`                   // entries an optional group was trimmed past
	Consumers   []ConsumerStatus `json:"consumers"`
}

// ConsumerStatus is one process in a group.
type ConsumerStatus struct {
	Name    string `json:"name"`
	Pending int    `json:"pending"`
	State   string `json:"state"`         // "alive", "gone" (its work will be taken over) or "away" (a lasting one that is not running)
	Why     string `json:"why,omitempty"` // what keeps one that is alive from working: "paused: mongo: …"
}

// Overview is a pipeline at one moment: its stages and publishers and all channels that they name, in the order in which an
// event passes them.
type Overview struct {
	At       time.Time       `json:"at"` // Redis' clock
	Stages   []StageInfo     `json:"stages"`
	Channels []ChannelStatus `json:"channels"`
}

// Stages lists the stages and publishers that have ever run, by name.
func (p *Pipeline) Stages(ctx context.Context) ([]StageInfo, error) {
	all, err := p.link.Client.HGetAll(ctx, p.link.Keys.Stages()).Result()
	if err = p.link.Check(ctx, err); err != nil {
		return nil, err
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

// Withdraw takes a publisher that will not publish again out of the list of stages.
func (p *Pipeline) Withdraw(ctx context.Context, publisher string) error {
	return p.link.Check(ctx, p.link.Client.HDel(ctx, p.link.Keys.Stages(), publisher).Err())
}

// Channels lists the channels that some stage or publisher named, by name.
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

// Status looks at a channel.
func (p *Pipeline) Status(ctx context.Context, channel string) (ChannelStatus, error) {
	_, all, err := p.look(ctx, channel)
	if err != nil {
		return ChannelStatus{}, err
	}
	return all[0], nil
}

// Overview looks at the whole pipeline, in two round trips however large it is.
func (p *Pipeline) Overview(ctx context.Context) (Overview, error) {
	stages, err := p.Stages(ctx)
	if err != nil {
		return Overview{}, err
	}
	o := Overview{Stages: inFlow(stages)}
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
	o.At, o.Channels, err = p.look(ctx, channels...)
	return o, err
}

// Channel is the status of a channel that the pipeline names, and whether it does.
func (o Overview) Channel(name string) (ChannelStatus, bool) {
	i := slices.IndexFunc(o.Channels, func(c ChannelStatus) bool { return c.Channel == name })
	if i < 0 {
		return ChannelStatus{}, false
	}
	return o.Channels[i], true
}

// look runs the status script and returns Redis' time and a status for each channel.
func (p *Pipeline) look(ctx context.Context, channels ...string) (time.Time, []ChannelStatus, error) {
	streams := make([]string, len(channels))
	for i, c := range channels {
		streams[i] = p.link.Keys.Stream(c)
	}
	r, err := p.link.Run(ctx, script.Status, streams)
	if err != nil {
		return time.Time{}, nil, err
	}
	all := make([]ChannelStatus, len(channels))
	for i, v := range r[1:] {
		all[i] = channelStatus(channels[i], link.List(v))
	}
	return time.UnixMilli(int64(link.Int(r[0]))), all, nil
}

// channelStatus reads what the script says of a channel.
func channelStatus(channel string, r []any) ChannelStatus {
	c := ChannelStatus{
		Channel: channel, Kind: link.Text(r[0]), Entries: link.Int(r[1]), Dead: link.Int(r[2]), lastDead: link.Text(r[3]), Due: link.Int(r[4]),
		Adopted: link.Text(r[5]) != "", Added: link.Int(r[6]), newest: link.Text(r[7]),
	}
	for _, v := range r[8:] {
		row := link.List(v)
		g := GroupStatus{
			Name: link.Text(row[0]), Optional: link.Text(row[1]) == "optional", Backlog: link.Int(row[3]), Pending: link.Int(row[4]),
			OldestEvent: link.Text(row[6]), Settled: link.Int(row[7]), Lost: link.Int(row[8]),
		}
		if id := link.Text(row[5]); id != "" {
			g.Oldest = entry.Time(id)
		}
		for i := 9; i+3 < len(row); i += 4 {
			g.Consumers = append(g.Consumers, ConsumerStatus{
				Name: link.Text(row[i]), Pending: link.Int(row[i+1]), State: link.Text(row[i+2]), Why: link.Text(row[i+3]),
			})
		}
		slices.SortFunc(g.Consumers, func(a, b ConsumerStatus) int { return strings.Compare(a.Name, b.Name) })
		c.Groups = append(c.Groups, g)
	}
	slices.SortFunc(c.Groups, func(a, b GroupStatus) int { return strings.Compare(a.Name, b.Name) })
	return c
}

// inFlow sorts stages as an event passes them, those side by side by name. A stage's depth is the longest way to it; a way
// back to where an event has been already counts nothing.
func inFlow(stages []StageInfo) []StageInfo {
	depths := Depths(stages)
	slices.SortFunc(stages, func(a, b StageInfo) int {
		return cmp.Or(cmp.Compare(depths[a.Name], depths[b.Name]), strings.Compare(a.Name, b.Name))
	})
	return stages
}

// Depths is how many stages an event passes at most before it comes to each, by name.
func Depths(stages []StageInfo) map[string]int {
	depths, open := map[string]int{}, map[string]bool{}
	var visit func(s StageInfo) int
	visit = func(s StageInfo) int {
		if d, known := depths[s.Name]; known {
			return d
		}
		if open[s.Name] {
			return -1 // a way back
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
