package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/milepost/milepost/pkg/operate"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

func (x *examination) pipeline(ctx context.Context) {
	seen, err := x.Pipeline.Observer(0).Observe(ctx)
	if err != nil {
		x.add("stages", Unknown, err.Error(), "A script reads what the stages report.", "Fix what is above first.")
		return
	}
	rows := operate.Rows(seen)
	x.stages(rows)
	x.deadLetters(seen)
	x.backlog(rows)
	x.adoption(seen, rows)
	x.foreign(seen)
}

func (x *examination) foreign(seen inspect.Seen) {
	state, found := OK, "none to decide about"
	var open []string
	for _, c := range seen.Channels {
		for _, f := range c.Foreign {
			if f.Policy == "" {
				open = append(open, fmt.Sprintf("%s on %s (%d to ack)", f.Name, c.Channel, f.Backlog))
			}
		}
	}
	if len(open) > 0 {
		state, found = Warning, strings.Join(open, "; ")
	}
	x.add("foreign groups", state, found, "Entries are kept for a group of another program until it has acked them, up to MAX_BACKLOG. A forgotten one fills Redis.",
		"`milepostctl group adopt CHANNEL GROUP` keeps them without a limit, `milepostctl group ignore CHANNEL GROUP` keeps nothing.")
}

func (x *examination) stages(rows []operate.Row) {
	var idle, stuck []string
	for _, r := range rows {
		switch word := fmt.Sprintf("%s (%s)", r.Stage, r.State); {
		case r.State == operate.Running:
		case r.Backlog > 0 && !r.Optional:
			stuck = append(stuck, fmt.Sprintf("%s, %d waiting", word, r.Backlog))
		default:
			idle = append(idle, word)
		}
	}
	state, found := OK, fmt.Sprintf("%d running", len(rows))
	switch {
	case len(stuck) > 0:
		state, found = Failed, strings.Join(slices.Concat(stuck, idle), "; ")
	case len(idle) > 0:
		state, found = Warning, strings.Join(idle, "; ")
	case len(rows) == 0:
		state, found = Warning, "no stage has ever run here"
	}
	x.add("stages", state, found, "Entries are kept until every group has settled them. A group without processes keeps them for ever, and Redis fills up.",
		"Start the stage, or end its group with `milepostctl group retire CHANNEL STAGE`. `milepostctl status` says more.")
}

func (x *examination) deadLetters(seen inspect.Seen) {
	state, found, near, dead := OK, "none", "", 0
	for _, c := range seen.Channels {
		dead += c.Dead
		if c.Dead >= x.Limits.MaxDead*8/10 {
			near = fmt.Sprintf("; %s has %d of %d", c.Channel, c.Dead, x.Limits.MaxDead)
		}
	}
	if dead > 0 {
		state, found = Warning, fmt.Sprintf("%d%s", dead, near)
	}
	if near != "" {
		state = Failed
	}
	x.add("dead letters", state, found, fmt.Sprintf("Dead letters wait for a person. A channel keeps %d (MAX_DEAD); then the oldest are lost.", x.Limits.MaxDead),
		"`milepostctl dead list` shows them with their errors. Fix the causes, then `milepostctl dead replay`; drop the rubbish.")
}

func (x *examination) backlog(rows []operate.Row) {
	state, found := OK, "small"
	for _, r := range rows {
		switch {
		case r.Optional || r.Backlog < x.Limits.MaxBacklog/2:
		case r.Backlog >= x.Limits.MaxBacklog*8/10:
			state, found = Failed, fmt.Sprintf("%s has %d of %d", r.Stage, r.Backlog, x.Limits.MaxBacklog)
		case state == OK:
			state, found = Warning, fmt.Sprintf("%s has %d of %d", r.Stage, r.Backlog, x.Limits.MaxBacklog)
		}
	}
	x.add("backlog", state, found, fmt.Sprintf("When a required group has %d events to settle (MAX_BACKLOG), web-api answers 503.", x.Limits.MaxBacklog),
		"Add replicas of the stage, or find out with `milepostctl status` what it waits for.")
}

func (x *examination) adoption(seen inspect.Seen, rows []operate.Row) {
	runs := func(channel string) bool {
		return slices.ContainsFunc(rows, func(r operate.Row) bool { return r.Consumers > 0 && (channel == "" || r.Channel == channel) })
	}
	if x.Cluster {
		x.add("adoption", Warning, "not on a Redis Cluster", "What other programs PUBLISH there by themselves is not kept for the stages.",
			"Let them submit to web-api, or use `milepostctl publish`.")
		return
	}
	var alone []string
	for _, c := range seen.Channels {
		if !c.Adopted && runs(c.Channel) {
			alone = append(alone, c.Channel)
		}
	}
	state, found := OK, "every channel with a running stage has an adopter"
	if len(alone) > 0 {
		state, found = Warning, "none on "+strings.Join(alone, ", ")
	} else if !runs("") {
		state, found = Unknown, "no stage is running"
	}
	x.add("adoption", state, found, "One stage of each channel puts bare PUBLISHes of other programs into the stream. Without it they are lost to the stages.",
		"Run a stage of the channel with ADOPT=on, the default. After a start, wait a moment.")
}
