package milepostctl

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/operate"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

// The states of a finding.
const (
	fine    = "ok"
	warning = "warning" // works, but may not keep every promise
	failed  = "fail"    // events can be lost, or do not move
	unknown = "unknown" // the server did not say
)

// finding is the result of one check.
type finding struct {
	Check  string `json:"check"`
	State  string `json:"state"`
	Found  string `json:"found"`
	Means  string `json:"means"`            // why it matters
	Change string `json:"change,omitempty"` // what to do if it is not ok
}

// examination collects findings.
type examination struct{ all []finding }

// add adds a finding.
func (x *examination) add(check, state, found, means, change string) {
	if state == fine {
		change = ""
	}
	x.all = append(x.all, finding{check, state, found, means, change})
}

// limits are those of the services, if the tool's environment has them too.
type limits struct {
	MaxBacklog int `env:"MAX_BACKLOG" envDefault:"1000000" min:"1" help:"as the services have it"`
	MaxDead    int `env:"MAX_DEAD" envDefault:"100000" min:"1" help:"as the services have it"`
	WaitFor    int `env:"WAIT_REPLICAS" envDefault:"0" min:"0" help:"as web-api has it"`
}

func (t *tool) doctor() *cobra.Command {
	var mongo mongoFlag
	var explain bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check Redis, the store and the pipeline, and say what to change",
		Long: `doctor checks what the promises depend on. Of Redis: credentials and TLS, the rights of this user,
version, persistence, memory and eviction, output buffers, clock and response times, and keys of other
programs. A user with the name of a program needs no more than that program. Of the cache's Redis
(CACHE_REDIS_URL): rights and eviction. Of MongoDB (--mongo,
MONGO_URL or MONGO_HOST): version, index, clock and response times. Of the pipeline: groups without
processes, dead letters near MAX_DEAD, backlogs near MAX_BACKLOG, and adoption. Set MAX_DEAD, MAX_BACKLOG
and WAIT_REPLICAS as the services have them.

Each finding says what it means and what to change. What Redis does not tell is "unknown". The exit
status is 5 if a check failed; warnings alone end with 0.`,
		Example: `  milepostctl doctor
  milepostctl doctor --explain
  milepostctl doctor --mongo mongodb://127.0.0.1:27017/ --output json | jq 'select(.state != "ok")'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var l limits
			var cache config.CacheRedis
			if err := config.Load(t.Getenv, &l); err != nil {
				return err
			}
			if err := config.Load(t.Getenv, &cache); err != nil {
				return err
			}
			store, named, err := mongo.settings(t)
			if err != nil {
				return err
			}
			t.paint()
			var x examination
			return t.open(cmd.Context(), func(ctx context.Context, p pipeline) error {
				away := x.broker(ctx, t, l.WaitFor)
				x.cache(ctx, cache, t)
				if named {
					x.store(ctx, store, t.timeout)
				} else {
					x.add("mongo", unknown, "not asked", "The store keeps a document for each submission.", "Name it with --mongo or MONGO_URL to check it.")
				}
				if away == nil {
					x.pipeline(ctx, p, l)
				}
				err := t.examined(x, explain)
				if away != nil {
					return away
				}
				return err
			})
		},
	}
	mongo.flag(cmd)
	cmd.Flags().BoolVar(&explain, "explain", false, "explain every finding, not only those that are not ok")
	return cmd
}

// examined writes the findings.
func (t *tool) examined(x examination, explain bool) error {
	var rows [][]string
	var text strings.Builder
	failures := 0
	for _, f := range x.all {
		if f.State == failed {
			failures++
		}
		if t.output == "json" {
			if err := t.json(f); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, []string{f.State, f.Check, printable(f.Found)})
		if f.State != fine || explain {
			fmt.Fprintf(&text, "\n%s: %s: %s\n  %s\n", f.State, f.Check, printable(f.Found), f.Means)
		}
		if f.Change != "" {
			fmt.Fprintf(&text, "  To do: %s\n", f.Change)
		}
	}
	if t.output != "json" {
		if err := t.table(t.Out, []string{"STATE", "CHECK", "FOUND"}, rows, "FOUND"); err != nil {
			return err
		}
		if _, err := io.WriteString(t.Out, text.String()); err != nil {
			return err
		}
	}
	if failures > 0 {
		return problems(plural(failures, "failed check"))
	}
	return nil
}

// pipeline checks what the stages report.
func (x *examination) pipeline(ctx context.Context, p pipeline, l limits) {
	seen, err := p.Observer(0).Observe(ctx)
	if err != nil {
		x.add("stages", unknown, err.Error(), "A script reads what the stages report.", "Fix what is above first.")
		return
	}
	rows := operate.Rows(seen)
	x.stages(rows)
	x.deadLetters(seen, l)
	x.backlog(rows, l)
	x.adoption(seen, rows)
	x.foreign(seen)
}

func (x *examination) foreign(seen inspect.Seen) {
	state, found := fine, "none to decide about"
	var open []string
	for _, c := range seen.Channels {
		for _, f := range c.Foreign {
			if f.Policy == "" {
				open = append(open, fmt.Sprintf("%s on %s (%d to ack)", f.Name, c.Channel, f.Backlog))
			}
		}
	}
	if len(open) > 0 {
		state, found = warning, strings.Join(open, "; ")
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
	state, found := fine, plural(len(rows), "stage")+" running"
	switch {
	case len(stuck) > 0:
		state, found = failed, strings.Join(slices.Concat(stuck, idle), "; ")
	case len(idle) > 0:
		state, found = warning, strings.Join(idle, "; ")
	case len(rows) == 0:
		state, found = warning, "no stage has ever run here"
	}
	x.add("stages", state, found, "Entries are kept until every group has settled them. A group without processes keeps them for ever, and Redis fills up.",
		"Start the stage, or end its group with `milepostctl group retire CHANNEL STAGE`. `milepostctl status` says more.")
}

func (x *examination) deadLetters(seen inspect.Seen, l limits) {
	state, found, near, dead := fine, "none", "", 0
	for _, c := range seen.Channels {
		dead += c.Dead
		if c.Dead >= l.MaxDead*8/10 {
			near = fmt.Sprintf("; %s has %d of %d", c.Channel, c.Dead, l.MaxDead)
		}
	}
	if dead > 0 {
		state, found = warning, fmt.Sprintf("%d%s", dead, near)
	}
	if near != "" {
		state = failed
	}
	x.add("dead letters", state, found, fmt.Sprintf("Dead letters wait for a person. A channel keeps %d (MAX_DEAD); then the oldest are lost.", l.MaxDead),
		"`milepostctl dead list` shows them with their errors. Fix the causes, then `milepostctl dead replay`; drop the rubbish.")
}

func (x *examination) backlog(rows []operate.Row, l limits) {
	state, found := fine, "small"
	for _, r := range rows {
		switch {
		case r.Optional || r.Backlog < l.MaxBacklog/2:
		case r.Backlog >= l.MaxBacklog*8/10:
			state, found = failed, fmt.Sprintf("%s has %d of %d", r.Stage, r.Backlog, l.MaxBacklog)
		case state == fine:
			state, found = warning, fmt.Sprintf("%s has %d of %d", r.Stage, r.Backlog, l.MaxBacklog)
		}
	}
	x.add("backlog", state, found, fmt.Sprintf("When a required group has %d events to settle (MAX_BACKLOG), web-api answers 503.", l.MaxBacklog),
		"Add replicas of the stage, or find out with `milepostctl status` what it waits for.")
}

func (x *examination) adoption(seen inspect.Seen, rows []operate.Row) {
	runs := func(channel string) bool {
		return slices.ContainsFunc(rows, func(r operate.Row) bool { return r.Consumers > 0 && (channel == "" || r.Channel == channel) })
	}
	var alone []string
	for _, c := range seen.Channels {
		if !c.Adopted && runs(c.Channel) {
			alone = append(alone, c.Channel)
		}
	}
	state, found := fine, "every channel with a running stage has an adopter"
	if len(alone) > 0 {
		state, found = warning, "none on "+strings.Join(alone, ", ")
	} else if !runs("") {
		state, found = unknown, "no stage is running"
	}
	x.add("adoption", state, found, "One stage of each channel puts bare PUBLISHes of other programs into the stream. Without it they are lost to the stages.",
		"Run a stage of the channel with ADOPT=on, the default. After a start, wait a moment.")
}
