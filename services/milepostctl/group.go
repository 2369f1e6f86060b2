package milepostctl

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/milepost/milepost/pkg/operate"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

func (t *tool) group() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "group",
		Short: "List consumer groups, move one to the end of its stream, or end one",
	}
	cmd.AddCommand(t.groupList(),
		t.groupChange(groupChange{
			use: "skip", short: "Move a group to the end of its stream: it never sees what it has not settled",
			long: `skip counts everything that the group has not settled as settled. Use it before a stage comes back after
a foreign program stood in for it; otherwise the stage repeats that program's work. Stop the stage's
processes first.`,
			ask: "Let group %[2]s of %[1]s skip everything it has not settled?",
			do: func(ctx context.Context, p pipeline, channel, group string) (string, any, error) {
				n, err := p.Skip(ctx, channel, group)
				return fmt.Sprintf("group %s of %s skipped %s it had not settled", group, channel, entries(n)),
					map[string]any{"channel": channel, "group": group, "skipped": n}, err
			},
		}),
		t.groupChange(groupChange{
			use: "retire", short: "End a group that has no processes any more",
			long: `retire ends a group: nothing is kept for it any more, and it blocks nobody. It refuses while a process of
the group is alive. A stage of that name that starts later begins at the start of the stream.`,
			ask: "Retire group %[2]s of %[1]s?",
			do: func(ctx context.Context, p pipeline, channel, group string) (string, any, error) {
				return fmt.Sprintf("group %s of %s is retired", group, channel),
					map[string]any{"channel": channel, "group": group, "retired": true}, p.Retire(ctx, channel, group)
			},
		}),
	)
	return cmd
}

func (t *tool) groupList() *cobra.Command {
	return &cobra.Command{
		Use:               "list [CHANNEL...]",
		Short:             "List the groups of all channels or of the named ones",
		Example:           "  milepostctl group list raw_input",
		ValidArgsFunction: t.completeChannels,
		RunE: func(cmd *cobra.Command, names []string) error {
			return t.with(cmd.Context(), func(ctx context.Context, p pipeline) error {
				names, err := p.chosen(ctx, names)
				if err != nil {
					return err
				}
				var rows [][]string
				for _, n := range names {
					s, err := p.Status(ctx, n)
					if err != nil {
						return fmt.Errorf("status of %s: %w", n, err)
					}
					for _, g := range s.Groups {
						if t.output != "json" {
							rows = append(rows, groupRows(n, g)...)
						} else if err := t.json(struct {
							Channel string `json:"channel"`
							inspect.GroupStatus
						}{n, g}); err != nil {
							return err
						}
					}
				}
				switch {
				case t.output == "json":
					return nil
				case len(rows) == 0:
					_, err := fmt.Fprintln(t.Out, "no groups: no stage has read any of these channels yet")
					return err
				}
				return table(t.Out, []string{"CHANNEL", "GROUP", "POLICY", "BACKLOG", "PENDING", "OLDEST", "SETTLED", "LOST", "CONSUMERS"}, rows)
			})
		},
	}
}

// groupRows has a row for each consumer of a group.
func groupRows(channel string, g inspect.GroupStatus) (rows [][]string) {
	policy := "required"
	if g.Optional {
		policy = "optional"
	}
	row := []string{
		visible(channel), visible(g.Name), policy, strconv.Itoa(g.Backlog), strconv.Itoa(g.Pending),
		operate.Ago(time.Now(), g.Oldest), strconv.Itoa(g.Settled), strconv.Itoa(g.Lost),
	}
	if len(g.Consumers) == 0 {
		return [][]string{append(row, "no process runs it")}
	}
	for _, c := range g.Consumers {
		rows = append(rows, append(row, fmt.Sprintf("%s (%s, %d pending)", visible(c.Name), c.State, c.Pending)))
		row = []string{"", "", "", "", "", "", "", ""}
	}
	return rows
}

func entries(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return strconv.Itoa(n) + " entries"
}

// groupChange is something done to a group. do returns its result as text and as JSON.
type groupChange struct {
	use, short, long, ask string
	do                    func(ctx context.Context, p pipeline, channel, group string) (string, any, error)
}

func (t *tool) groupChange(c groupChange) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:               c.use + " CHANNEL GROUP",
		Short:             c.short,
		Long:              c.long,
		Example:           fmt.Sprintf("  milepostctl group %s raw_input weather", c.use),
		Args:              needs("CHANNEL", "GROUP"),
		ValidArgsFunction: t.completeGroup,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				if err := t.confirm(fmt.Sprintf(c.ask, visible(args[0]), visible(args[1]))); err != nil {
					return err
				}
			}
			return t.with(cmd.Context(), func(ctx context.Context, p pipeline) error {
				text, object, err := c.do(ctx, p, args[0], args[1])
				return t.told(text, object, err)
			})
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (t *tool) claim() *cobra.Command {
	var from string
	var yes bool
	cmd := &cobra.Command{
		Use:   "claim CHANNEL GROUP --from CONSUMER",
		Short: "Give back the pending entries of a consumer that never returns",
		Long: `claim gives the pending entries of a consumer back to its group and deletes the consumer. The entries of
a silent consumer are taken over after one lease without it. The exception is the email stage, whose
journal knows which lines were written. So use claim only if that journal is lost with its volume;
lines that were written but not settled are then written again. The consumer must not be running.
` + "`milepostctl group list`" + ` shows its name.`,
		Example:           "  milepostctl claim user:email email --from journal-0193a1b2c3d4",
		Args:              needs("CHANNEL", "GROUP"),
		ValidArgsFunction: t.completeGroup,
		RunE: func(cmd *cobra.Command, args []string) error {
			channel, group := args[0], args[1]
			if from == "" {
				return usage("--from CONSUMER is missing")
			}
			of := fmt.Sprintf("group %s of %s", visible(group), visible(channel))
			if !yes {
				if err := t.confirm(fmt.Sprintf("Give the pending entries of %s back to %s? It must never come back.", visible(from), of)); err != nil {
					return err
				}
			}
			return t.with(cmd.Context(), func(ctx context.Context, p pipeline) error {
				if err := p.hasConsumer(ctx, channel, group, from); err != nil {
					return err
				}
				n, err := p.Claim(ctx, channel, group, from)
				return t.told(fmt.Sprintf("%s of %s given back to %s", entries(n), from, of),
					map[string]any{"channel": channel, "group": group, "from": from, "claimed": n}, err)
			})
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "the consumer that never returns (required)")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// hasConsumer refuses a mistyped consumer, which would otherwise look like one without entries.
func (p pipeline) hasConsumer(ctx context.Context, channel, group, name string) error {
	s, err := p.Status(ctx, channel)
	if err != nil {
		return err
	}
	for _, g := range s.Groups {
		for _, c := range g.Consumers {
			if g.Name == group && c.Name == name {
				return nil
			}
		}
	}
	return fmt.Errorf("consumer %s of group %s of %s: %w", visible(name), visible(group), visible(channel), stage.ErrNotFound)
}
