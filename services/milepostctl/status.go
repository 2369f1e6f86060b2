package milepostctl

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/milepost/milepost/pkg/operate"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

func (t *tool) status() *cobra.Command {
	var check, shards bool
	var sample time.Duration
	cmd := &cobra.Command{
		Use:   "status [CHANNEL...]",
		Short: "Show the state of each stage, and what is wrong",
		Long: `status has a line for each stage: its state, how many entries it has not settled (BACKLOG), how many of
them are delivered (PENDING), the age of the oldest, how many it settles a second, its consumers, the
events that it will retry, and its dead letters. Below, it says what is wrong and what to do about it.
On a Redis Cluster these are sums; with --shards there is a line for each shard of each stage, too. WRITER
is the journal of the email process that the shard belongs to.

The rate is measured for --sample. A number such as 100+ is a minimum: only that many were read. With
--check the exit status is 5 if there is an urgent problem: a stage that is paused, behind, or not running
while events wait, or dead letters. "watch milepostctl status" repeats it until you interrupt it.`,
		Example: `  milepostctl status
  milepostctl status user:email --output json
  milepostctl status --check --sample 0 || echo "look at the pipeline"`,
		RunE: func(cmd *cobra.Command, names []string) error {
			if sample < 0 {
				return usage(fmt.Sprintf("--sample must be at least 0; it is %s", sample))
			}
			return t.open(cmd.Context(), func(ctx context.Context, p pipeline) error {
				if err := p.channel(ctx, names...); err != nil {
					return err
				}
				o := p.Observer(0)
				seen, err := o.Observe(ctx)
				if err == nil && sample > 0 && pause(ctx, sample) {
					seen, err = o.Observe(ctx)
				}
				if err != nil {
					return err
				}
				if len(names) > 0 {
					seen = only(seen, names)
				}
				wrong := operate.Problems(seen, t.called())
				if err := t.writeStatus(seen, wrong, shards); err != nil {
					return err
				}
				wrong = slices.DeleteFunc(wrong, func(p operate.Problem) bool { return !p.Urgent })
				if check && len(wrong) > 0 {
					return problems(operate.Plural(len(wrong), "urgent problem", "urgent problems"))
				}
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.DurationVar(&sample, "sample", time.Second, "how long to measure rates (0: not at all)")
	f.BoolVar(&shards, "shards", false, "show each shard of a Redis Cluster")
	f.BoolVar(&check, "check", false, "end with exit status 5 if there is an urgent problem")
	return cmd
}

// pause waits and reports whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// only is what was seen of the named channels.
func only(s inspect.Seen, names []string) inspect.Seen {
	other := func(c inspect.ChannelStatus) bool { return !slices.Contains(names, c.Channel) }
	s.Channels = slices.DeleteFunc(s.Channels, other)
	for i := range s.Shards {
		s.Shards[i].Channels = slices.DeleteFunc(s.Shards[i].Channels, other)
	}
	return s
}

// writeStatus writes what was seen, with each shard if shards is true. As JSON it is one line.
func (t *tool) writeStatus(s inspect.Seen, wrong []operate.Problem, shards bool) error {
	if !shards {
		s.Shards = nil
	}
	if t.output == "json" {
		return t.json(struct {
			At       time.Time               `json:"at"`
			Prefix   string                  `json:"prefix,omitempty"`
			Stages   []operate.Row           `json:"stages"`
			Channels []inspect.ChannelStatus `json:"channels"`
			Problems []operate.Problem       `json:"problems"`
			Shards   []inspect.ShardStatus   `json:"shards,omitempty"`
		}{s.At, s.Prefix, operate.Rows(s), s.Channels, wrong, s.Shards})
	}
	var b strings.Builder
	if s.Prefix != "" {
		fmt.Fprintf(&b, "prefix %s\n", s.Prefix)
	}
	heading := []string{"STAGE", "CHANNEL", "STATE", "BACKLOG", "PENDING", "OLDEST", "RATE", "CONSUMERS", "RETRIES", "DEAD"}
	var rows [][]string
	for _, r := range operate.Rows(s) {
		rows = append(rows, stageRow(s, r))
	}
	if len(rows) == 0 {
		b.WriteString("no stage has ever run here\n")
	} else {
		table(&b, heading, rows)
	}
	if len(s.Shards) > 0 {
		b.WriteByte('\n')
		table(&b, slices.Concat([]string{"SHARD"}, heading, []string{"WRITER"}), shardRows(s, len(heading)))
	}
	writeProblems(&b, wrong)
	_, err := fmt.Fprint(t.Out, b.String())
	return err
}

func stageRow(s inspect.Seen, r operate.Row) []string {
	return []string{
		visible(r.Stage), visible(r.Channel), r.State, strconv.Itoa(r.Backlog), strconv.Itoa(r.Pending), operate.Ago(s.At, r.Oldest),
		operate.Rate(r.Rate), strconv.Itoa(r.Consumers), r.Retrying.String(), r.Dead.String(),
	}
}

// shardRows has a line for each stage of each shard: its number, what stageRow has, the writer.
func shardRows(s inspect.Seen, columns int) (rows [][]string) {
	for _, x := range s.Shards {
		shard := strconv.Itoa(x.Shard)
		if x.Away != "" {
			rows = append(rows, slices.Concat([]string{shard, "-", "-", "away"}, slices.Repeat([]string{"-"}, columns-2)))
		}
		one := inspect.Seen{Overview: inspect.Overview{At: s.At, Stages: s.Stages, Channels: x.Channels}}
		for _, r := range operate.Rows(one) {
			rows = append(rows, slices.Concat([]string{shard}, stageRow(one, r), []string{cmp.Or(x.Writer(r.Stage), "-")}))
		}
	}
	return rows
}

func writeProblems(b *strings.Builder, problems []operate.Problem) {
	for _, p := range problems {
		mark := "-"
		if p.Urgent {
			mark = "!"
		}
		fmt.Fprintf(b, "\n%s %s\n  %s\n", mark, printable(p.Text), p.Do)
		if p.Command != "" {
			fmt.Fprintf(b, "    %s\n", p.Command)
		}
	}
}
