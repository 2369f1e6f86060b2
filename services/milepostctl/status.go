package milepostctl

import (
	"bytes"
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
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

func (t *tool) status() *cobra.Command {
	var watch, check bool
	var interval, sample time.Duration
	cmd := &cobra.Command{
		Use:   "status [CHANNEL...]",
		Short: "Show how each stage is, and what is wrong",
		Long: `status has a line for each stage: its state, what it has yet to settle (backlog), what of that is in somebody's hands
(pending), since when the oldest of it waits, how fast it settles, how many processes run it, how many events it will try
again, and its dead letters. Below it says what is wrong and what to do about it.

The rate is measured for --sample. A number such as 100+ means that there may be more: only that many were looked at.
--watch looks again each --interval until interrupted, in place on a terminal, with further lines elsewhere. With --check
the exit status is 5 if anything urgent is wrong: a stage that does not run while events wait, or is paused, or behind, or
dead letters.`,
		Example: `  milepostctl status
  milepostctl status --watch
  milepostctl status user:email --output json
  milepostctl status --check --sample 0 || echo "look at the pipeline"`,
		ValidArgsFunction: t.completeChannels,
		RunE: func(cmd *cobra.Command, names []string) error {
			switch {
			case sample < 0:
				return usage(fmt.Sprintf("--sample: %s is less than 0", sample))
			case interval < 100*time.Millisecond:
				return usage(fmt.Sprintf("--interval: %s is less than 100ms", interval))
			case watch && check:
				return usage("--watch and --check: one goes on, the other ends")
			}
			return t.open(cmd.Context(), func(ctx context.Context, b *stage.Broker) error {
				o := inspect.New(b).Observer(0)
				seen, err := t.observe(ctx, o, names)
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
					if seen, err = t.observe(ctx, o, names); err != nil {
						return err
					}
				}
				if err := t.statusOf(t.Out, seen); err != nil {
					return err
				}
				if n := urgent(seen); check && n > 0 {
					return fmt.Errorf("%s: %w", plural(n, "urgent problem"), errFindings)
				}
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&watch, "watch", "w", false, "look again and again until interrupted")
	f.DurationVar(&interval, "interval", time.Second, "how often --watch looks")
	f.DurationVar(&sample, "sample", time.Second, "how long to measure rates (0: not at all)")
	f.BoolVar(&check, "check", false, "end with exit status 5 if anything urgent is wrong")
	return cmd
}

// pause waits and tells whether ctx is still alive.
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

// observe looks at the pipeline, and at the named channels only if any are.
func (t *tool) observe(ctx context.Context, o *inspect.Observer, names []string) (inspect.Seen, error) {
	seen, err := o.Observe(ctx)
	if err != nil {
		return inspect.Seen{}, err
	}
	if len(names) == 0 {
		return seen, nil
	}
	for _, n := range names {
		if _, ok := seen.Channel(n); !ok {
			return inspect.Seen{}, fmt.Errorf("channel %s, which no stage names: %w", visible(n), stage.ErrNotFound)
		}
	}
	seen.Channels = slices.DeleteFunc(slices.Clone(seen.Channels), func(c inspect.ChannelStatus) bool { return !slices.Contains(names, c.Channel) })
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

// statusOf writes what was seen, for JSON on one line.
func (t *tool) statusOf(w io.Writer, s inspect.Seen) error {
	if t.output == "json" {
		return jsonTo(w, struct {
			At       time.Time               `json:"at"`
			Stages   []operate.Row           `json:"stages"`
			Channels []inspect.ChannelStatus `json:"channels"`
			Problems []operate.Problem       `json:"problems"`
		}{s.At, operate.Rows(s), s.Channels, operate.Problems(s, t.called())})
	}
	rows := stageRows(s)
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "no stage has ever run here")
		return err
	}
	if err := table(w, stageHeading, rows); err != nil {
		return err
	}
	return t.problems(w, s)
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

func (t *tool) problems(w io.Writer, s inspect.Seen) error {
	for _, p := range operate.Problems(s, t.called()) {
		mark := "-"
		if p.Urgent {
			mark = "!"
		}
		if _, err := fmt.Fprintf(w, "\n%s %s\n  %s\n", mark, printable(p.Text), p.Do); err != nil {
			return err
		}
		if p.Command != "" {
			if _, err := fmt.Fprintf(w, "    %s\n", p.Command); err != nil {
				return err
			}
		}
	}
	return nil
}

// watch shows what o sees until ctx ends, which is how it is meant to end.
func (t *tool) watch(ctx context.Context, o *inspect.Observer, seen inspect.Seen, names []string, interval time.Duration) (err error) {
	inPlace := t.Screen != nil && t.output == "text"
	if inPlace {
		fmt.Fprint(t.Out, "\x1b[2J\x1b[?25l") // clear; the cursor would only flicker
		defer fmt.Fprint(t.Out, "\x1b[?25h")  // and comes back
	}
	heading := true
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
			err = t.lines(seen, heading)
			heading = false
		}
		if err != nil {
			return err // nobody reads any more
		}
		if !pause(ctx, interval) {
			return nil
		}
		var next inspect.Seen
		if next, err = t.observe(ctx, o, names); err == nil {
			seen = next
		}
	}
	return nil
}

// lines adds a line for each stage, for a log or a pipe.
func (t *tool) lines(s inspect.Seen, heading bool) error {
	var b bytes.Buffer
	rows := stageRows(s)
	for i := range rows {
		rows[i] = slices.Insert(rows[i], 0, s.At.Local().Format(time.TimeOnly))
	}
	if err := table(&b, slices.Insert(slices.Clone(stageHeading), 0, "TIME"), rows); err != nil {
		return err
	}
	text := b.String()
	if !heading {
		_, text, _ = strings.Cut(text, "\n")
	}
	_, err := io.WriteString(t.Out, text)
	return err
}

// redraw writes the screen anew from its top, no line longer than it is wide.
func (t *tool) redraw(s inspect.Seen, lost error) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s   every stage of %s   Ctrl-C ends it\n\n", s.At.Local().Format(time.DateTime), t.where())
	err := t.statusOf(&b, s)
	if lost != nil {
		fmt.Fprintf(&b, "\n! %s; above is what was seen last\n", printable(lost.Error()))
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
