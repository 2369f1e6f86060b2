package stage

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// StageInfo is what a stage or publisher told of itself when it last started.
type StageInfo struct {
	Name     string   `json:"name"`
	In       string   `json:"in,omitempty"` // "" for a publisher
	Out      []Output `json:"out,omitempty"`
	Optional bool     `json:"optional,omitempty"`
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
func (b *Broker) Stages(ctx context.Context) ([]StageInfo, error) {
	all, err := b.rdb.HGetAll(ctx, stagesKey).Result()
	if err = b.seen(ctx, err); err != nil {
		return nil, err
	}
	out := make([]StageInfo, 0, len(all))
	for name, about := range all {
		var r registration
		if err := json.Unmarshal([]byte(about), &r); err != nil {
			return nil, fmt.Errorf("registration of stage %s: %w", name, err)
		}
		out = append(out, StageInfo{Name: name, In: r.In, Out: r.Out, Optional: r.Optional})
	}
	slices.SortFunc(out, func(a, b StageInfo) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Withdraw takes a publisher that will not publish again out of the list of stages.
func (b *Broker) Withdraw(ctx context.Context, publisher string) error {
	return b.seen(ctx, b.rdb.HDel(ctx, stagesKey, publisher).Err())
}

// Channels lists the channels that some stage or publisher named, by name.
func (b *Broker) Channels(ctx context.Context) ([]string, error) {
	stages, err := b.Stages(ctx)
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
func (b *Broker) Status(ctx context.Context, channel string) (ChannelStatus, error) {
	_, all, err := b.look(ctx, channel)
	if err != nil {
		return ChannelStatus{}, err
	}
	return all[0], nil
}

// Overview looks at the whole pipeline, in two round trips however large it is.
func (b *Broker) Overview(ctx context.Context) (Overview, error) {
	stages, err := b.Stages(ctx)
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
	o.At, o.Channels, err = b.look(ctx, channels...)
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
func (b *Broker) look(ctx context.Context, channels ...string) (time.Time, []ChannelStatus, error) {
	r, err := b.run(ctx, statusScript, channels)
	if err != nil {
		return time.Time{}, nil, err
	}
	all := make([]ChannelStatus, len(channels))
	for i, v := range r[1:] {
		all[i] = channelStatus(channels[i], list(v))
	}
	return time.UnixMilli(int64(number(r[0]))), all, nil
}

// channelStatus reads what the script says of a channel.
func channelStatus(channel string, r []any) ChannelStatus {
	c := ChannelStatus{
		Channel: channel, Kind: text(r[0]), Entries: number(r[1]), Dead: number(r[2]), lastDead: text(r[3]), Due: number(r[4]),
		Adopted: text(r[5]) != "", Added: number(r[6]), newest: text(r[7]),
	}
	for _, v := range r[8:] {
		row := list(v)
		g := GroupStatus{
			Name: text(row[0]), Optional: text(row[1]) == "optional", Backlog: number(row[3]), Pending: number(row[4]),
			OldestEvent: text(row[6]), Settled: number(row[7]), Lost: number(row[8]),
		}
		if id := text(row[5]); id != "" {
			g.Oldest = entryTime(id)
		}
		for i := 9; i+3 < len(row); i += 4 {
			g.Consumers = append(g.Consumers, ConsumerStatus{
				Name: text(row[i]), Pending: number(row[i+1]), State: text(row[i+2]), Why: text(row[i+3]),
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
			if s.In != "" && slices.ContainsFunc(before.Out, func(o Output) bool { return o.Channel == s.In }) {
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

// ErrAlive: consumers of the group are running; stop them first.
var ErrAlive = errors.New("consumers of the group are alive")

// Retire ends a group that nobody runs any more: nothing is kept for it, and it holds nobody up. A stage of that name that
// starts later begins at the start of what the stream then holds. [ErrNotFound], [ErrAlive].
func (b *Broker) Retire(ctx context.Context, channel, group string) error {
	r, err := b.run(ctx, retireScript, []string{channel, groupsKey(channel), floorsKey(channel), stagesKey}, group)
	switch {
	case err != nil:
		return err
	case number(r[0]) == 0:
		return fmt.Errorf("group %s of %s: %w", group, channel, ErrNotFound)
	case number(r[0]) == -1:
		return fmt.Errorf("group %s of %s: %w", group, channel, ErrAlive)
	}
	return nil
}

// Skip moves a group to the end of its stream and returns how many entries it will now never see: for a stage that comes
// back after a foreign stand-in did its work. [ErrNotFound].
func (b *Broker) Skip(ctx context.Context, channel, group string) (int, error) {
	r, err := b.run(ctx, skipScript, []string{channel, groupsKey(channel)}, group)
	if err != nil {
		return 0, err
	}
	if number(r[0]) < 0 {
		return 0, fmt.Errorf("group %s of %s: %w", group, channel, ErrNotFound)
	}
	return number(r[0]), nil
}

// Claim gives what is pending for a consumer back to its group, for anyone to take, and forgets the consumer: the way out
// for a lasting consumer that will never return, because its volume is lost. It must not be running. It returns how many
// entries were given back.
func (b *Broker) Claim(ctx context.Context, channel, group, consumer string) (int, error) {
	if err := b.seen(ctx, b.rdb.Del(ctx, consumerKey(group, consumer)).Err()); err != nil {
		return 0, err
	}
	for total := 0; ; {
		r, err := b.run(ctx, leaveScript, []string{channel}, group, consumer, 128, b.opt.MaxDead)
		if err != nil {
			return total, err
		}
		if number(r[0]) == 0 {
			return total, nil
		}
		total += number(r[0])
	}
}
