package milepostctl

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/milepost/milepost/pkg/operate"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

func (t *tool) status() *cobra.Command {
	var watch, check, shards bool
	var interval, sample time.Duration
	cmd := &cobra.Command{
		Use:   "status [CHANNEL...]",
		Short: "Show the state of each stage, and what is wrong",
		Long: `status has a line for each stage: its state, how many entries it has not settled (BACKLOG), how many of
them are delivered (PENDING), the age of the oldest, how many it settles a second, its consumers, the
events that it will retry, and its dead letters. Below, it says what is wrong and what to do about it.
On a Redis Cluster these are sums; with --shards there is a line for each shard of each stage, too. WRITER
is the journal of the email process that the shard belongs to.

The rate is measured for --sample. A number such as 100+ is a minimum: only that many were read. --watch
repeats it every --interval until interrupted: in place on a terminal, else one below the other. With --check
the exit status is 5 if there is an urgent problem: a stage that is paused, behind, or not running while
events wait, or dead letters.`,
		Example: `  milepostctl status
  milepostctl status --watch
  milepostctl status user:email --output json
  milepostctl status --check --sample 0 || echo "look at the pipeline"`,
		ValidArgsFunction: t.completes(channelWords),
		RunE: func(cmd *cobra.Command, names []string) error {
			switch {
			case sample < 0:
				return usage(fmt.Sprintf("--sample must be at least 0; it is %s", sample))
			case interval < 100*time.Millisecond:
				return usage(fmt.Sprintf("--interval must be at least 100ms; it is %s", interval))
			case watch && check:
				return usage("--watch and --check contradict each other")
			}
			t.paint()
			t.shards = shards
			return t.open(cmd.Context(), func(ctx context.Context, p pipeline) error {
				if _, err := p.chosen(ctx, names); err != nil {
					return err
				}
				o := p.Observer(0)
				seen, err := observe(ctx, o, names)
				if err != nil {
					return err
				}
				if watch {
					return t.watch(ctx, o, seen, names, interval)
				}
				if sample > 0 {
					if !pause(ctx, sample) {
						return nil
					}
					if seen, err = observe(ctx, o, names); err != nil {
						return err
					}
				}
				if err := t.statusOf(t.Out, seen); err != nil {
					return err
				}
				if n := urgent(seen); check && n > 0 {
					return problems(plural(n, "urgent problem"))
				}
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&watch, "watch", "w", false, "repeat until interrupted")
	f.DurationVar(&interval, "interval", time.Second, "how often --watch looks")
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

// observe looks at the pipeline, or only at the named channels if there are names.
func observe(ctx context.Context, o *inspect.Observer, names []string) (inspect.Seen, error) {
	seen, err := o.Observe(ctx)
	if err != nil || len(names) == 0 {
		return seen, err
	}
	named := func(all []inspect.ChannelStatus) []inspect.ChannelStatus {
		return slices.DeleteFunc(slices.Clone(all), func(c inspect.ChannelStatus) bool { return !slices.Contains(names, c.Channel) })
	}
	seen.Channels, seen.Shards = named(seen.Channels), slices.Clone(seen.Shards)
	for i := range seen.Shards {
		seen.Shards[i].Channels = named(seen.Shards[i].Channels)
	}
	return seen, nil
}

func urgent(s inspect.Seen) (n int) {
	for _, p := range operate.Problems(s, "") {
		if p.Urgent {
			n++
		}
	}
	return n
}

// statusOf writes what was seen; as JSON it is one line.
func (t *tool) statusOf(w io.Writer, s inspect.Seen) error {
	problems := operate.Problems(s, t.called())
	if t.output == "json" {
		return jsonTo(w, struct {
			At       time.Time               `json:"at"`
			Prefix   string                  `json:"prefix,omitempty"`
			Stages   []operate.Row           `json:"stages"`
			Channels []inspect.ChannelStatus `json:"channels"`
			Problems []operate.Problem       `json:"problems"`
			Shards   []inspect.ShardStatus   `json:"shards,omitempty"`
		}{s.At, s.Prefix, operate.Rows(s), s.Channels, problems, t.shardsOf(s)})
	}
	if s.Prefix != "" {
		if _, err := fmt.Fprintf(w, "prefix %s\n", s.Prefix); err != nil {
			return err
		}
	}
	rows := stageRows(s)
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "no stage has ever run here")
		return err
	}
	if err := t.table(w, stageHeading, rows, "CONSUMERS", "PENDING", "RATE", "OLDEST"); err != nil {
		return err
	}
	if err := t.shardTable(w, s); err != nil {
		return err
	}
	var b strings.Builder
	writeProblems(&b, problems)
	_, err := io.WriteString(w, b.String())
	return err
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

var stageHeading = []string{"STAGE", "CHANNEL", "STATE", "BACKLOG", "PENDING", "OLDEST", "RATE", "CONSUMERS", "RETRIES", "DEAD"}

func stageRows(s inspect.Seen) (rows [][]string) {
	for _, r := range operate.Rows(s) {
		rows = append(rows, []string{
			visible(r.Stage), visible(r.Channel), r.State, strconv.Itoa(r.Backlog), strconv.Itoa(r.Pending), operate.Ago(s.At, r.Oldest),
			operate.Rate(r.Rate), strconv.Itoa(r.Consumers), r.Retrying.String(), r.Dead.String(),
		})
	}
	return rows
}

// shardsOf are the shards if they were asked for.
func (t *tool) shardsOf(s inspect.Seen) []inspect.ShardStatus {
	if !t.shards {
		return nil
	}
	return s.Shards
}

// shardTable has a line for each stage and shard, if that was asked.
func (t *tool) shardTable(w io.Writer, s inspect.Seen) error {
	var rows [][]string
	for _, x := range t.shardsOf(s) {
		shard := strconv.Itoa(x.Shard)
		if x.Away != "" {
			rows = append(rows, append([]string{shard, "-", "-", "away"}, slices.Repeat([]string{"-"}, len(stageHeading)-2)...))
		}
		one := inspect.Seen{Overview: inspect.Overview{At: s.At, Stages: s.Stages, Channels: x.Channels}}
		for i, row := range stageRows(one) {
			rows = append(rows, append(slices.Insert(row, 0, shard), cmp.Or(x.Writer(operate.Rows(one)[i].Stage), "-")))
		}
	}
	if len(rows) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return t.table(w, append(slices.Insert(slices.Clone(stageHeading), 0, "SHARD"), "WRITER"), rows, "CONSUMERS", "PENDING", "RATE", "OLDEST")
}

// watch shows what o sees until ctx ends, which is its usual end.
func (t *tool) watch(ctx context.Context, o *inspect.Observer, seen inspect.Seen, names []string, interval time.Duration) (err error) {
	inPlace := t.Screen != nil && t.output == "text"
	if inPlace {
		fmt.Fprint(t.Out, "\x1b[2J\x1b[?25l") // clear the screen and hide the cursor, which would flicker
		defer fmt.Fprint(t.Out, "\x1b[?25h")  // show it again
	}
	for ctx.Err() == nil {
		switch {
		case err != nil && t.output == "json":
			err = jsonTo(t.Out, map[string]string{"error": err.Error()})
		case inPlace:
			err = t.redraw(seen, err)
		case err != nil:
			_, err = fmt.Fprintf(t.Err, "%s  %v\n", time.Now().Format(time.TimeOnly), err)
		case t.output == "json":
			err = t.statusOf(t.Out, seen)
		default:
			fmt.Fprintln(t.Out, seen.At.Local().Format(time.DateTime))
			err = t.statusOf(t.Out, seen)
		}
		if err != nil {
			return err // the output is closed
		}
		if !pause(ctx, interval) {
			return nil
		}
		var next inspect.Seen
		if next, err = observe(ctx, o, names); err == nil {
			seen = next
		}
	}
	return nil
}

// redraw draws the screen from its top. It cuts lines at its width.
func (t *tool) redraw(s inspect.Seen, lost error) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s   every stage of %s   Ctrl-C ends it\n\n", s.At.Local().Format(time.DateTime), t.where())
	err := t.statusOf(&b, s)
	if lost != nil {
		fmt.Fprintf(&b, "\n! %s; above is the last answer\n", printable(lost.Error()))
	}
	width, height := t.Screen()
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	lines = lines[:min(len(lines), max(height-1, 1))]
	var out strings.Builder
	out.WriteString("\x1b[H")
	for _, l := range lines {
		if r := []rune(l); len(r) > width {
			l = string(r[:width])
		}
		out.WriteString(l + "\x1b[K\n")
	}
	out.WriteString("\x1b[J")
	_, wrote := io.WriteString(t.Out, out.String())
	return errors.Join(err, wrote)
}
