package milepostctl

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/operate"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

// How a finding came out.
const (
	fine    = "ok"
	warning = "warning" // works, and may not keep every promise
	failed  = "fail"    // events can be lost, or do not move
	unknown = "unknown" // it could not be asked
)

// finding is one thing that doctor looked at.
type finding struct {
	Check  string `json:"check"`
	State  string `json:"state"`
	Found  string `json:"found"`
	Means  string `json:"means"`            // why it matters
	Change string `json:"change,omitempty"` // what to do if it is not ok
}

// examination collects findings.
type examination struct{ all []finding }

// add adds a finding. Means and change are for whoever does not know the setting.
func (x *examination) add(check, state, found, means, change string) {
	if state == fine {
		change = ""
	}
	x.all = append(x.all, finding{check, state, found, means, change})
}

// limits are what the services are configured with, as far as the tool's own environment says so.
type limits struct {
	MaxBacklog int `env:"MAX_BACKLOG" envDefault:"1000000" min:"1" help:"as the services have it"`
	MaxDead    int `env:"MAX_DEAD" envDefault:"100000" min:"1" help:"as the services have it"`
}

func (t *tool) doctor() *cobra.Command {
	var mongo mongoFlag
	var explain bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check Redis, the store and the pipeline, and say what to change",
		Long: `doctor checks what the promises rest on: of Redis the version, persistence, memory and eviction, output buffers, its
clock and its answer times; of the cache's Redis (CACHE_REDIS_URL) its eviction; of MongoDB (--mongo, MONGO_URL or
MONGO_HOST) the version, the index, its clock and its answer times; of the pipeline groups that nobody runs, dead letters
near MAX_DEAD, backlogs near MAX_BACKLOG, and adoption. Set MAX_DEAD and MAX_BACKLOG as the services have them.

Each finding says what it means and what to change. What Redis does not let it ask is "unknown". The exit status is 5 if
anything failed; warnings alone end with 0.`,
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
			var x examination
			return t.open(cmd.Context(), func(ctx context.Context, b *stage.Broker) error {
				if err := x.broker(ctx, t.options, t.timeout); err != nil {
					return err
				}
				x.cache(ctx, cache, t.timeout)
				if named {
					x.store(ctx, store, t.timeout)
				} else {
					x.add("mongo", unknown, "not asked", "The store keeps a document for each submission.", "Name it with --mongo or MONGO_URL to have it checked.")
				}
				if err := x.pipeline(ctx, b, l); err != nil {
					x.add("stages", unknown, err.Error(), "What the stages report is read by a script.", "Mend what stands above first.")
				}
				return t.examined(x, explain)
			})
		},
	}
	mongo.flag(cmd)
	cmd.Flags().BoolVar(&explain, "explain", false, "say of everything what it means, not only of what is wrong")
	return cmd
}

// examined writes the findings.
func (t *tool) examined(x examination, explain bool) error {
	count := map[string]int{}
	var rows [][]string
	for _, f := range x.all {
		count[f.State]++
		if t.output == "json" {
			if err := t.json(f); err != nil {
				return err
			}
		}
		rows = append(rows, []string{f.State, f.Check, printable(f.Found)})
	}
	if t.output != "json" {
		if err := table(t.Out, []string{"STATE", "CHECK", "FOUND"}, rows); err != nil {
			return err
		}
		for _, f := range x.all {
			if f.State == fine && !explain {
				continue
			}
			if _, err := fmt.Fprintf(t.Out, "\n%s: %s: %s\n  %s\n", f.State, f.Check, printable(f.Found), f.Means); err != nil {
				return err
			}
			if f.Change != "" {
				if _, err := fmt.Fprintf(t.Out, "  To do: %s\n", f.Change); err != nil {
					return err
				}
			}
		}
	}
	if n := count[failed]; n > 0 {
		return fmt.Errorf("%s: %w", plural(n, "failed check"), errFindings)
	}
	return nil
}

// pipeline looks at what the stages report.
func (x *examination) pipeline(ctx context.Context, b *stage.Broker, l limits) error {
	seen, err := inspect.New(b).Observer(0).Observe(ctx)
	if err != nil {
		return err
	}
	rows := operate.Rows(seen)
	var idle, stuck []string
	for _, r := range rows {
		if r.State == operate.Running {
			continue
		}
		word := fmt.Sprintf("%s (%s)", r.Stage, r.State)
		if r.Backlog > 0 && !r.Optional {
			stuck = append(stuck, fmt.Sprintf("%s, %d waiting", word, r.Backlog))
		} else {
			idle = append(idle, word)
		}
	}
	state, found := fine, plural(len(rows), "stage")+" at work"
	switch {
	case len(stuck) > 0:
		state, found = failed, strings.Join(slices.Concat(stuck, idle), "; ")
	case len(idle) > 0:
		state, found = warning, strings.Join(idle, "; ")
	case len(rows) == 0:
		state, found = warning, "no stage has ever run here"
	}
	x.add("stages", state, found, "Entries are kept until every group has settled them: a group that nobody runs holds its events up, and fills Redis.",
		"Start the stage, or end its group with `milepostctl group retire CHANNEL STAGE`. `milepostctl status` says more.")

	state, found = fine, "none"
	dead, near := 0, ""
	for _, c := range seen.Channels {
		dead += c.Dead
		if c.Dead >= l.MaxDead*8/10 {
			near = fmt.Sprintf("; %s has %d, and at %d the oldest go", c.Channel, c.Dead, l.MaxDead)
		}
	}
	if dead > 0 {
		state, found = warning, fmt.Sprintf("%d%s", dead, near)
	}
	if near != "" {
		state = failed
	}
	x.add("dead letters", state, found, fmt.Sprintf("Dead letters wait for a person. A channel keeps %d (MAX_DEAD); over that the oldest are lost.", l.MaxDead),
		"`milepostctl dead list` shows them with their reasons; mend these, then `milepostctl dead replay`, or drop what is rubbish.")

	state, found = fine, "none worth mentioning"
	for _, r := range rows {
		switch {
		case r.Optional || r.Backlog < l.MaxBacklog/2:
		case r.Backlog >= l.MaxBacklog*8/10:
			state, found = failed, fmt.Sprintf("%s has %d of %d", r.Stage, r.Backlog, l.MaxBacklog)
		case state == fine:
			state, found = warning, fmt.Sprintf("%s has %d of %d", r.Stage, r.Backlog, l.MaxBacklog)
		}
	}
	x.add("backlog", state, found, fmt.Sprintf("At %d events before a required group (MAX_BACKLOG) the edge answers 503.", l.MaxBacklog),
		"Add replicas of the stage, or find out what it waits for with `milepostctl status`.")

	var alone []string
	for _, c := range seen.Channels {
		if !c.Adopted && slices.ContainsFunc(rows, func(r operate.Row) bool { return r.Channel == c.Channel && r.Consumers > 0 }) {
			alone = append(alone, c.Channel)
		}
	}
	state, found = fine, "every channel that a stage reads has an adopter"
	if len(alone) > 0 {
		state, found = warning, "none on "+strings.Join(alone, ", ")
	} else if !slices.ContainsFunc(rows, func(r operate.Row) bool { return r.Consumers > 0 }) {
		state, found = unknown, "no stage is running"
	}
	x.add("adoption", state, found, "One stage of each channel puts bare PUBLISHes from elsewhere into the stream. Without it they are gone unless somebody listens.",
		"Let a stage of the channel run with ADOPT=on, which is the default. After a start it takes a moment.")
	return nil
}
