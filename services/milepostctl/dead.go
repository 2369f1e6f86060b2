package milepostctl

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/milepost/milepost/pkg/operate"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

// deadPage is how many dead letters one call reads, replays or drops.
const deadPage = 100

func (t *tool) dead() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dead",
		Short: "Look at dead letters, replay, drop, export or import them",
		Long: `A dead letter is an entry that a stage set aside: its payload could not be decoded, its handler called
the error permanent, or it failed too often. It keeps its error until somebody replays or drops it.`,
		Example: `  milepostctl dead list --since 2h
  milepostctl dead show raw_input 1763697600000-0
  milepostctl dead replay raw_input --group distance
  milepostctl dead export > letters.jsonl`,
	}
	cmd.AddCommand(t.deadList(), t.deadShow(), t.deadExport(), t.deadImport(),
		t.deadChange(change{
			verb: "replay", past: "replayed",
			short: "Give dead letters back to the stage that failed, and to no other",
			long: `replay puts dead letters back into their channel's stream, for the group that failed, with their counts
at zero. Fix the cause first: an entry that fails again becomes a dead letter again.`,
			do: (*inspect.Pipeline).Replay,
		}),
		t.deadChange(change{
			verb: "drop", past: "dropped",
			short: "Remove dead letters for good",
			long:  "drop removes dead letters for good. Their payloads are lost.",
			do:    (*inspect.Pipeline).Drop,
		}),
	)
	return cmd
}

// filter chooses dead letters. Its zero value chooses all.
type filter struct {
	group, id, error string
	since, until     time.Duration
}

func (f *filter) flags(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.group, "group", "", "only those of this stage")
	fs.StringVar(&f.id, "id", "", "only those of this event ID")
	fs.StringVar(&f.error, "error", "", "only those whose error contains this text")
	fs.DurationVar(&f.since, "since", 0, "only those set aside within this time, such as 2h")
	fs.DurationVar(&f.until, "until", 0, "only those set aside longer ago than this, such as 720h")
}

func (f *filter) match(d inspect.DeadLetter, now time.Time) bool {
	age := now.Sub(d.Dead)
	return (f.group == "" || d.Group == f.group) &&
		(f.id == "" || d.ID == f.id) &&
		strings.Contains(d.Error, f.error) &&
		(f.since == 0 || age <= f.since) &&
		(f.until == 0 || age >= f.until)
}

// letters yields the dead letters that f matches, oldest first: those of the named channels, which
// must exist, or of all. An error is the last thing that it yields.
func (p pipeline) letters(ctx context.Context, f filter, names ...string) iter.Seq2[inspect.DeadLetter, error] {
	return func(yield func(inspect.DeadLetter, error) bool) {
		now := time.Now()
		names, err := p.chosen(ctx, names)
		for i, after := 0, ""; err == nil && i < len(names); {
			var page []inspect.DeadLetter
			page, err = p.DeadLetters(ctx, names[i], after, deadPage)
			for _, d := range page {
				if f.match(d, now) && !yield(d, nil) {
					return
				}
				after = d.Entry
			}
			if len(page) < deadPage {
				i, after = i+1, ""
			}
		}
		if err != nil {
			yield(inspect.DeadLetter{}, err)
		}
	}
}

type letter struct {
	inspect.DeadLetter
	Text   string `json:"payload,omitempty"` // as in a payload
	Bytes  []byte `json:"payload_base64,omitempty"`
	Replay string `json:"replay,omitempty"` // the command that replays it
}

func (t *tool) letter(d inspect.DeadLetter) letter {
	p := payloadOf(d.Payload)
	return letter{d, p.Text, p.Bytes, operate.Replay(t.called(), d)}
}

func (t *tool) showLetter(d inspect.DeadLetter) error {
	l := t.letter(d)
	if t.output == "json" {
		return t.json(l)
	}
	_, err := fmt.Fprintf(t.Out, `entry      %s
channel    %s
group      %s
event      %s
error      %s
tries      %d
crashes    %d
submitted  %s
set aside  %s
payload    %s
replay     %s
`, d.Entry, d.Channel, visible(d.Group), visible(d.ID), visible(d.Error), d.Tries, d.Crashes, clock(d.At), clock(d.Dead), printable(string(d.Payload)), l.Replay)
	return err
}

func (t *tool) deadList() *cobra.Command {
	var f filter
	var limit int
	cmd := &cobra.Command{
		Use:   "list [CHANNEL...]",
		Short: "List dead letters, oldest first, of all channels or of the named ones",
		Example: `  milepostctl dead list
  milepostctl dead list raw_input --group distance --since 1h
  milepostctl dead list --error latitude --output json`,
		RunE: func(cmd *cobra.Command, names []string) error {
			if limit < 0 {
				return usage(fmt.Sprintf("--limit must be at least 0; it is %d", limit))
			}
			return t.open(cmd.Context(), func(ctx context.Context, p pipeline) error {
				return t.listLetters(ctx, p, names, f, limit)
			})
		},
	}
	f.flags(cmd)
	cmd.Flags().IntVar(&limit, "limit", 100, "at most this many (0: all)")
	return cmd
}

// listLetters writes the dead letters of the channels that f matches, up to a limit if it is not 0.
func (t *tool) listLetters(ctx context.Context, p pipeline, channels []string, f filter, limit int) error {
	l, more := listing{tool: t}, false
	for d, err := range p.letters(ctx, f, channels...) {
		if err != nil {
			return err
		}
		if more = limit > 0 && l.n == limit; more {
			break
		}
		l.add(t.letter(d), d.Channel, d.Entry, visible(d.Group), operate.Ago(time.Now(), d.Dead), visible(d.Error), visible(d.ID), short(d.Payload))
	}
	err := l.end("no dead letters in "+cmp.Or(strings.Join(channels, ", "), "any channel"),
		"CHANNEL", "ENTRY", "GROUP", "AGE", "ERROR", "EVENT", "PAYLOAD")
	if more {
		fmt.Fprintf(t.Err, "only the first %d; --limit 0 lists all\n", limit)
	}
	if t.output != "json" && l.n > 0 {
		fmt.Fprintf(t.Err, "once the cause is fixed: %s dead replay CHANNEL ENTRY...\n", t.called())
	}
	return err
}

func short(p []byte) string {
	const most = 60
	if len(p) > most {
		return fmt.Sprintf("%s… (%d bytes)", printable(string(p[:most])), len(p))
	}
	return printable(string(p))
}

func (t *tool) deadShow() *cobra.Command {
	return &cobra.Command{
		Use:     "show CHANNEL ENTRY",
		Short:   "Show a whole dead letter",
		Example: `  milepostctl dead show raw_input 1763697600000-0`,
		Args:    needs("CHANNEL", "ENTRY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkEntries(args[1:]); err != nil {
				return err
			}
			return t.open(cmd.Context(), func(ctx context.Context, p pipeline) error {
				if err := p.channel(ctx, args[0]); err != nil {
					return err
				}
				d, err := p.DeadLetter(ctx, args[0], args[1])
				if err != nil {
					return fmt.Errorf("dead letter %s of %s: %w", args[1], args[0], err)
				}
				return t.showLetter(d)
			})
		},
	}
}

type change struct {
	verb, past  string
	short, long string
	do          func(*inspect.Pipeline, context.Context, string, ...string) (int, error)
}

func (t *tool) deadChange(c change) *cobra.Command {
	var f filter
	var all, yes bool
	cmd := &cobra.Command{
		Use:   c.verb + " CHANNEL [ENTRY...]",
		Short: c.short,
		Long:  c.long + "\n\nName the entries, or choose by filters, or say --all. It asks before it does anything, unless --yes is given.",
		Example: fmt.Sprintf(`  milepostctl dead %[1]s raw_input 1763697600000-0
  milepostctl dead %[1]s calculated_distance --group db --since 2h --yes
  milepostctl dead %[1]s user:email --all`, c.verb),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("CHANNEL is missing")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			channel, entries, filtered := args[0], args[1:], f != filter{}
			switch {
			case len(entries) > 0 && (all || filtered):
				return usage("name entries, or choose by filters or --all, not both")
			case all && filtered:
				return usage("--all and a filter contradict each other")
			case len(entries) == 0 && !all && !filtered:
				return usage(fmt.Sprintf("which? Name entries, choose by filters, or say --all to %s all dead letters of %s", c.verb, channel))
			}
			if err := checkEntries(entries); err != nil {
				return err
			}
			return t.open(cmd.Context(), func(ctx context.Context, p pipeline) error {
				if err := p.channel(ctx, channel); err != nil {
					return err
				}
				if len(args) == 1 {
					for d, err := range p.letters(ctx, f, channel) {
						if err != nil {
							return err
						}
						entries = append(entries, d.Entry)
					}
				}
				if len(entries) == 0 {
					return fmt.Errorf("no dead letter of %s matches: %w", channel, stage.ErrNotFound)
				}
				question := fmt.Sprintf("%s%s %s of %s?", strings.ToUpper(c.verb[:1]), c.verb[1:], operate.Plural(len(entries), "dead letter", "dead letters"), channel)
				if err := t.confirm(question, yes); err != nil {
					return err
				}
				return t.apply(ctx, p, c, channel, entries)
			})
		},
	}
	f.flags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "all dead letters of the channel")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// apply does c to the entries, a page at a time.
func (t *tool) apply(ctx context.Context, p pipeline, c change, channel string, entries []string) error {
	done := 0
	for page := range slices.Chunk(entries, deadPage) {
		n, err := c.do(p.Pipeline, ctx, channel, page...)
		if err != nil {
			return fmt.Errorf("%s dead letters of %s: after %d of %d: %w", c.verb, channel, done, len(entries), err)
		}
		done += n
	}
	err := t.told(fmt.Sprintf("%s %s", c.past, operate.Plural(done, "dead letter", "dead letters")), map[string]any{"channel": channel, c.past: done, "asked": len(entries)})
	if err == nil && done < len(entries) {
		err = fmt.Errorf("%d of %s: %w", len(entries)-done, operate.Plural(len(entries), "dead letter", "dead letters"), stage.ErrNotFound)
	}
	return err
}

// errDeclined: the person said no, or there was nobody to ask.
var errDeclined = errors.New("nothing was done")

// confirm asks a person, unless yes. Without a terminal it refuses and names --yes.
func (t *tool) confirm(question string, yes bool) error {
	switch {
	case yes:
		return nil
	case !t.Terminal:
		return fmt.Errorf("%s %w: there is no terminal to confirm it at; --yes does not ask", question, errDeclined)
	}
	fmt.Fprintf(t.Err, "%s [y/N] ", question)
	answer, err := bufio.NewReader(t.In).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	case "":
		if err != nil { // the end of the input, as of a null device
			return fmt.Errorf("%w: there was no answer; --yes does not ask", errDeclined)
		}
	}
	return errDeclined
}

var entryID = regexp.MustCompile(`^[0-9]{1,20}-[0-9]{1,20}(/[0-9]{1,20})?$`)

// checkEntries refuses words that cannot be entry IDs before Redis does.
func checkEntries(entries []string) error {
	for _, e := range entries {
		if !entryID.MatchString(e) {
			return usage(fmt.Sprintf("%q is not an entry ID such as 1763697600000-0; `milepostctl dead list` shows them", e))
		}
	}
	return nil
}
