package inspect

import (
	"fmt"
	"slices"
	"strings"
)

// sum is what the shards that are not away have of their ith channel. One shard's is returned as it
// is.
func sum(shards []ShardStatus, i int) (out ChannelStatus) {
	here := make([]ShardStatus, 0, len(shards))
	for _, s := range shards {
		if s.Away == "" {
			here = append(here, s)
		}
	}
	if len(shards) == 1 {
		return here[0].Channels[i]
	}
	out.Adopted = shards[0].Away != "" // it has the lease, and does not say
	for _, s := range here {
		c := s.Channels[i]
		out.Channel = c.Channel
		if out.Kind == "" || out.Kind == "none" {
			out.Kind = c.Kind
		}
		out.Wrong = append(out.Wrong, c.Wrong...)
		out.Entries += c.Entries
		out.Added += c.Added
		out.Dead += c.Dead
		out.Due += c.Due
		out.Adopted = out.Adopted || c.Adopted
		for _, g := range c.Groups {
			addGroup(&out, g)
		}
		for _, f := range c.Foreign {
			addForeign(&out, f)
		}
	}
	for j := range out.Groups {
		g := &out.Groups[j]
		for k := range g.Consumers {
			g.Consumers[k] = consumerOf(here, i, g.Name, g.Consumers[k].Name)
		}
		slices.SortFunc(g.Consumers, func(a, b ConsumerStatus) int { return strings.Compare(a.Name, b.Name) })
	}
	slices.SortFunc(out.Groups, func(a, b GroupStatus) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(out.Foreign, func(a, b Foreign) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func addGroup(c *ChannelStatus, g GroupStatus) {
	j := slices.IndexFunc(c.Groups, func(x GroupStatus) bool { return x.Name == g.Name })
	if j < 0 {
		c.Groups = append(c.Groups, GroupStatus{Name: g.Name})
		j = len(c.Groups) - 1
	}
	x := &c.Groups[j]
	x.Optional = x.Optional || g.Optional
	x.Backlog += g.Backlog
	x.Pending += g.Pending
	x.Settled += g.Settled
	x.Lost += g.Lost
	if !g.Oldest.IsZero() && (x.Oldest.IsZero() || g.Oldest.Before(x.Oldest)) {
		x.Oldest, x.OldestEvent = g.Oldest, g.OldestEvent
	}
	for _, y := range g.Consumers {
		if !slices.ContainsFunc(x.Consumers, func(z ConsumerStatus) bool { return z.Name == y.Name }) {
			x.Consumers = append(x.Consumers, ConsumerStatus{Name: y.Name})
		}
	}
}

func addForeign(c *ChannelStatus, f Foreign) {
	j := slices.IndexFunc(c.Foreign, func(x Foreign) bool { return x.Name == f.Name })
	if j < 0 {
		c.Foreign = append(c.Foreign, f)
		return
	}
	x := &c.Foreign[j]
	if f.Policy == "" { // in one shard nothing is decided yet
		x.Policy = ""
	}
	x.Backlog += f.Backlog
	x.Lost += f.Lost
	x.Consumers = max(x.Consumers, f.Consumers)
	if !f.Oldest.IsZero() && (x.Oldest.IsZero() || f.Oldest.Before(x.Oldest)) {
		x.Oldest = f.Oldest
	}
}

// consumerOf is a consumer, of a group of the ith channel, in all shards. It is alive if it is so
// in one of them. What keeps it from working in some of them names those.
func consumerOf(shards []ShardStatus, i int, group, name string) ConsumerStatus {
	out := ConsumerStatus{Name: name}
	var states, obstacles []string
	reasons := map[string][]int{} // obstacle and why -> shards
	for _, s := range shards {
		key := "starting\x00it does not read there"
		for _, g := range s.Channels[i].Groups {
			for _, c := range g.Consumers {
				if g.Name != group || c.Name != name {
					continue
				}
				out.Pending += c.Pending
				states = append(states, c.State)
				if c.State == "alive" {
					key = c.Obstacle + "\x00" + c.Why
				}
			}
		}
		if reasons[key] == nil {
			obstacles = append(obstacles, key)
		}
		reasons[key] = append(reasons[key], s.Shard)
	}
	for _, state := range []string{"alive", "away", "gone"} {
		if slices.Contains(states, state) {
			out.State = state
			break
		}
	}
	if out.State != "alive" {
		return out
	}
	for _, key := range obstacles {
		obstacle, why, _ := strings.Cut(key, "\x00")
		if obstacle == "" {
			continue
		}
		if n := len(reasons[key]); n < len(shards) {
			why = fmt.Sprintf("on %d of %d shards (%s): %s", n, len(shards), strings.Trim(fmt.Sprint(reasons[key]), "[]"), why)
		}
		out.Obstacle, out.Why = obstacle, why
		break
	}
	return out
}
