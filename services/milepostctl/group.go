package milepostctl

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

// statuses looks at the channels, at all that are known if none is named.
func statuses(ctx context.Context, b *stage.Broker, names []string) ([]inspect.ChannelStatus, error) {
	if len(names) == 0 {
		var err error
		if names, err = known(ctx, b); err != nil {
			return nil, err
		}
	}
	out := make([]inspect.ChannelStatus, len(names))
	for i, n := range names {
		s, err := inspect.New(b).Status(ctx, n)
		if err != nil {
			return nil, fmt.Errorf("status of %s: %w", n, err)
		}
		out[i] = s
	}
	return out, nil
}

// groups writes a line for each consumer of each group.
func (t *tool) groups(all []inspect.ChannelStatus) error {
	now := time.Now()
	var rows [][]string
	for _, s := range all {
		for _, g := range s.Groups {
			row := []string{
				visible(s.Channel), visible(g.Name), policy(g), strconv.Itoa(g.Backlog), strconv.Itoa(g.Pending),
				ago(now, g.Oldest), strconv.Itoa(g.Settled), strconv.Itoa(g.Lost),
			}
			if len(g.Consumers) == 0 {
				rows = append(rows, append(row, "nobody runs it"))
			}
			for i, c := range g.Consumers {
				if i > 0 {
					row = []string{"", "", "", "", "", "", "", ""}
				}
				rows = append(rows, append(row, fmt.Sprintf("%s (%s, %d pending)", visible(c.Name), c.State, c.Pending)))
			}
		}
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(t.Out, "no groups: no stage has read any of these channels yet")
		return err
	}
	return table(t.Out, []string{"CHANNEL", "GROUP", "POLICY", "BACKLOG", "PENDING", "OLDEST", "SETTLED", "LOST", "CONSUMERS"}, rows)
}

func policy(g inspect.GroupStatus) string {
	if g.Optional {
		return "optional"
	}
	return "required"
}

func (t *tool) group() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "group",
		Short: "List consumer groups, move one to the end of its stream, or end one",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:               "list [CHANNEL...]",
			Short:             "List the groups of the channels",
			Example:           "  milepostctl group list raw_input",
			ValidArgsFunction: t.completeChannels,
			RunE: func(cmd *cobra.Command, names []string) error {
				return t.with(cmd.Context(), func(ctx context.Context, b *stage.Broker) error {
					all, err := statuses(ctx, b, names)
					if err != nil {
						return err
					}
					if t.output != "json" {
						return t.groups(all)
					}
					for _, s := range all {
						for _, g := range s.Groups {
							err := t.json(struct {
								Channel string `json:"channel"`
								inspect.GroupStatus
							}{s.Channel, g})
							if err != nil {
								return err
							}
						}
					}
					return nil
				})
			},
		},
		t.groupChange(groupChange{
			use: "skip", short: "Move a group to the end of its stream: it never sees what it has not settled",
			long: `skip counts everything the group has not settled as settled. Do it before a stage comes back after a foreign program
stood in for it on the channel: the stand-in's work would be done again otherwise. Stop the stage's processes first.`,
			ask: "Let group %[2]s of %[1]s skip everything it has not settled?",
			do: func(ctx context.Context, b *stage.Broker, channel, group string) (string, any, error) {
				n, err := inspect.New(b).Skip(ctx, channel, group)
				return fmt.Sprintf("group %s of %s skipped %s it had not settled", group, channel, entries(n)),
					map[string]any{"channel": channel, "group": group, "skipped": n}, err
			},
		}),
		t.groupChange(groupChange{
			use: "retire", short: "End a group that nobody runs any more",
			long: `retire ends a group: nothing is kept for it any more, and it holds nobody up. It refuses while a process of the group
is alive. A stage of that name that starts later begins at the start of what the stream then holds.`,
			ask: "Retire group %[2]s of %[1]s?",
			do: func(ctx context.Context, b *stage.Broker, channel, group string) (string, any, error) {
				return fmt.Sprintf("group %s of %s is retired", group, channel),
					map[string]any{"channel": channel, "group": group, "retired": true}, inspect.New(b).Retire(ctx, channel, group)
			},
		}),
	)
	return cmd
}

func entries(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return strconv.Itoa(n) + " entries"
}

// groupChange is something done to a group. do returns what to say of it, as text and as JSON.
type groupChange struct {
	use, short, long, ask string
	do                    func(ctx context.Context, b *stage.Broker, channel, group string) (string, any, error)
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
				if err := t.confirm(c.ask, args[0], args[1]); err != nil {
					return err
				}
			}
			return t.with(cmd.Context(), func(ctx context.Context, b *stage.Broker) error {
				text, object, err := c.do(ctx, b, args[0], args[1])
				return t.told(text, object, err)
			})
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// told ends a command: with err, or by saying what was done.
func (t *tool) told(text string, object any, err error) error {
	switch {
	case err != nil:
		return err
	case t.output == "json":
		return t.json(object)
	}
	_, err = fmt.Fprintln(t.Out, text)
	return err
}

func (t *tool) claim() *cobra.Command {
	var from string
	var yes bool
	cmd := &cobra.Command{
		Use:   "claim CHANNEL GROUP --from CONSUMER",
		Short: "Give back what is pending for a consumer that will never return",
		Long: `claim gives the pending entries of a consumer back to its group and forgets the consumer. Other consumers are taken over
without help one lease after they fall silent; the email stage's is not, because its journal knows which lines it has
written. So claim is for one case: that journal, with its volume, is lost for good. Lines that were written but not settled
are then written again. The consumer must not be running. ` + "`milepostctl group list`" + ` shows its name.`,
		Example:           "  milepostctl claim user:email email --from journal-0193a1b2c3d4",
		Args:              needs("CHANNEL", "GROUP"),
		ValidArgsFunction: t.completeGroup,
		RunE: func(cmd *cobra.Command, args []string) error {
			channel, group := args[0], args[1]
			if from == "" {
				return usage("--from CONSUMER is missing")
			}
			if !yes {
				if err := t.confirm("Give what is pending for %s back to group %s of %s? It must never come back.", from, group, channel); err != nil {
					return err
				}
			}
			return t.with(cmd.Context(), func(ctx context.Context, b *stage.Broker) error {
				if err := hasConsumer(ctx, b, channel, group, from); err != nil {
					return err
				}
				n, err := inspect.New(b).Claim(ctx, channel, group, from)
				return t.told(fmt.Sprintf("%s of %s given back to group %s of %s", entries(n), from, group, channel),
					map[string]any{"channel": channel, "group": group, "from": from, "claimed": n}, err)
			})
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "the consumer that will never return (required)")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// hasConsumer keeps a mistyped name from passing as nothing to do.
func hasConsumer(ctx context.Context, b *stage.Broker, channel, group, name string) error {
	s, err := inspect.New(b).Status(ctx, channel)
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
	return fmt.Errorf("consumer %s of group %s of %s: %w", name, group, channel, stage.ErrNotFound)
}
