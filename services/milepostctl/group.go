package milepostctl

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/milepost/milepost/pkg/operate"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

func (t *tool) group() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "group",
		Short: "List consumer groups, move one to the end of its stream, end one, or decide about a foreign one",
		Example: `  milepostctl group list
  milepostctl group skip calculated_distance db
  milepostctl group retire raw_input tide`,
	}
	cmd.AddCommand(t.groupList(),
		t.groupChange(groupChange{
			use: "skip", short: "Move a group to the end of its stream: it never sees what it has not settled",
			long: `skip counts everything that the group has not settled as settled. Use it before a stage comes back after
a foreign program stood in for it; otherwise the stage repeats that program's work. Stop the stage's
processes first.`,
			example: "group skip raw_input distance",
			ask:     "Let %s skip everything it has not settled?",
			do: func(ctx context.Context, p pipeline, channel string, g inspect.GroupStatus) (string, map[string]any, error) {
				n, err := p.Skip(ctx, channel, g.Name)
				return fmt.Sprintf("group %s of %s skipped %s it had not settled", g.Name, channel, operate.Plural(n, "entry", "entries")), map[string]any{"skipped": n}, err
			},
		}),
		t.groupChange(groupChange{
			use: "retire", short: "End a group that has no processes any more",
			long: `retire ends a group: nothing is kept for it any more, and it blocks nobody. It refuses while a process of
the group is alive. A stage of that name that starts later begins at the start of the stream.`,
			example: "group retire raw_input tide",
			ask:     "Retire %s?",
			do: func(ctx context.Context, p pipeline, channel string, g inspect.GroupStatus) (string, map[string]any, error) {
				return fmt.Sprintf("group %s of %s is retired", g.Name, channel), map[string]any{"retired": true}, p.Retire(ctx, channel, g.Name)
			},
		}),
		t.groupChange(groupChange{
			use: "adopt", short: "Keep entries until another program's group has acked them",
			long: `adopt is for a group that another program made (XGROUP CREATE). Entries are then kept until it has acked
them; when it is MAX_BACKLOG behind, publishing is refused. Without a decision, they are kept up to
MAX_BACKLOG and then trimmed.`,
			example: "group adopt raw_input audit",
			ask:     "Let publishing wait for %s?",
			do: func(ctx context.Context, p pipeline, channel string, g inspect.GroupStatus) (string, map[string]any, error) {
				return fmt.Sprintf("entries of %s are kept until group %s has acked them", channel, g.Name), map[string]any{"policy": "required"},
					p.AwaitGroup(ctx, channel, g.Name)
			},
		}),
		t.groupChange(groupChange{
			use: "ignore", short: "Keep nothing for another program's group",
			long: `ignore is for a group that another program made (XGROUP CREATE). Trimming then does not wait for it: it
misses what it has not read in time.`,
			example: "group ignore raw_input audit",
			ask:     "Keep nothing for %s?",
			do: func(ctx context.Context, p pipeline, channel string, g inspect.GroupStatus) (string, map[string]any, error) {
				return fmt.Sprintf("nothing of %s is kept for group %s", channel, g.Name), map[string]any{"policy": "ignored"}, p.IgnoreGroup(ctx, channel, g.Name)
			},
		}),
	)
	return cmd
}

func (t *tool) groupList() *cobra.Command {
	return &cobra.Command{
		Use:     "list [CHANNEL...]",
		Short:   "List the groups of all channels or of the named ones",
		Example: "  milepostctl group list raw_input",
		RunE: func(cmd *cobra.Command, names []string) error {
			return t.open(cmd.Context(), func(ctx context.Context, p pipeline) error {
				names, err := p.chosen(ctx, names)
				if err != nil {
					return err
				}
				l := listing{tool: t}
				for _, n := range names {
					s, err := p.Status(ctx, n)
					if err != nil {
						return fmt.Errorf("status of %s: %w", n, err)
					}
					for _, f := range s.Foreign {
						l.add(struct {
							Channel string `json:"channel"`
							inspect.Foreign
						}{n, f}, visible(n), visible(f.Name), cmp.Or(f.Policy, "foreign"), strconv.Itoa(f.Backlog), "-",
							operate.Ago(time.Now(), f.Oldest), "-", strconv.Itoa(f.Lost), "made by another program")
					}
					for _, g := range s.Groups {
						l.add(struct {
							Channel string `json:"channel"`
							inspect.GroupStatus
						}{n, g}, groupRow(n, g)...)
					}
				}
				return l.end("no groups: no stage has read any of these channels yet",
					"CHANNEL", "GROUP", "POLICY", "BACKLOG", "PENDING", "OLDEST", "SETTLED", "LOST")
			})
		},
	}
}

// groupRow has a line for each consumer below it.
func groupRow(channel string, g inspect.GroupStatus) []string {
	policy := "required"
	if g.Optional {
		policy = "optional"
	}
	row := []string{
		visible(channel), visible(g.Name), policy, strconv.Itoa(g.Backlog), strconv.Itoa(g.Pending),
		operate.Ago(time.Now(), g.Oldest), strconv.Itoa(g.Settled), strconv.Itoa(g.Lost),
	}
	if len(g.Consumers) == 0 {
		return append(row, "no process runs it")
	}
	for _, c := range g.Consumers {
		row = append(row, fmt.Sprintf("%s (%s, %d pending)", visible(c.Name), c.State, c.Pending))
	}
	return row
}

// groupChange is something done to a group. do returns its result as text and as JSON.
type groupChange struct {
	use, short, long, example, ask string
	do                             func(ctx context.Context, p pipeline, channel string, g inspect.GroupStatus) (string, map[string]any, error)
}

func (t *tool) groupChange(c groupChange) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     c.use + " CHANNEL GROUP",
		Short:   c.short,
		Long:    c.long,
		Example: "  milepostctl " + c.example,
		Args:    needs("CHANNEL", "GROUP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			channel, group := args[0], args[1]
			return t.open(cmd.Context(), func(ctx context.Context, p pipeline) error {
				g, err := p.group(ctx, channel, group)
				if err != nil {
					return err
				}
				if err := t.confirm(fmt.Sprintf(c.ask, fmt.Sprintf("group %s of %s", group, channel)), yes); err != nil {
					return err
				}
				text, object, err := c.do(ctx, p, channel, g)
				if err != nil {
					return err
				}
				object["channel"], object["group"] = channel, group
				return t.told(text, object)
			})
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (t *tool) claim() *cobra.Command {
	var from string
	cmd := t.groupChange(groupChange{
		use: "claim", short: "Give back the pending entries of a consumer that never returns",
		long: `claim gives the pending entries of the consumer --from back to its group and deletes the consumer. The
entries of a silent consumer are taken over after one lease without it. The exception is the email stage,
whose journal knows which lines were written. So use claim only if that journal is lost with its volume;
lines that were written but not settled are then written again. The consumer must not be running.
` + "`milepostctl group list`" + ` shows its name.`,
		example: "claim user:email email --from journal-0193a1b2c3d4",
		ask:     "Give the pending entries of the consumer back to %s? It must never come back.",
		do: func(ctx context.Context, p pipeline, channel string, g inspect.GroupStatus) (string, map[string]any, error) {
			var names []string
			for _, c := range g.Consumers {
				names = append(names, c.Name)
			}
			if !slices.Contains(names, from) {
				return "", nil, notFound("consumer", from, names)
			}
			n, err := p.Claim(ctx, channel, g.Name, from)
			return fmt.Sprintf("%s of %s given back to group %s of %s", operate.Plural(n, "entry", "entries"), from, g.Name, channel), map[string]any{"from": from, "claimed": n}, err
		},
	})
	cmd.Flags().StringVar(&from, "from", "", "the consumer that never returns (required)")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if from == "" {
			return usage("--from CONSUMER is missing")
		}
		return nil
	}
	return cmd
}

// group is a group of a channel. It refuses mistyped names.
func (p pipeline) group(ctx context.Context, channel, name string) (inspect.GroupStatus, error) {
	if err := p.channel(ctx, channel); err != nil {
		return inspect.GroupStatus{}, err
	}
	s, err := p.Status(ctx, channel)
	if err != nil {
		return inspect.GroupStatus{}, err
	}
	if names := groupNames(s); !slices.Contains(names, name) {
		return inspect.GroupStatus{}, notFound("group", name, names)
	}
	for _, g := range s.Groups {
		if g.Name == name {
			return g, nil
		}
	}
	return inspect.GroupStatus{Name: name}, nil // another program's
}

func groupNames(s inspect.ChannelStatus) (names []string) {
	for _, g := range s.Groups {
		names = append(names, g.Name)
	}
	for _, f := range s.Foreign {
		names = append(names, f.Name)
	}
	return names
}
