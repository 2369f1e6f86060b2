package milepostctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/operate"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

func (t *tool) find() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "find EVENT",
		Short: "Show where an event is, since when, and why",
		Long: `find looks for an event by its ID: in the streams, among the retries and the dead letters, in the progress
of events that are watched, and in MongoDB if --mongo, MONGO_URL or MONGO_HOST names one. It shows which
stage has the event, since when, how often it failed, the error, and the command that helps.

Entries leave a stream soon after every stage has settled them. So an event that went all the way is
found by its document, for an hour by its progress if it was watched, and otherwise not at all.`,
		Example: `  milepostctl find 01a1fcf2-c249-787c-93ac-7be164ea854e
  milepostctl find 01a1fcf2-c249-787c-93ac-7be164ea854e --mongo mongodb://127.0.0.1:27017/ --output json`,
		Args: needs("EVENT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var docs *records.Store
			store, err := t.store()
			if err != nil {
				return err
			}
			if store != nil {
				if docs, err = records.Open(store.URI(), store.Database(), 0); err != nil {
					return err
				}
				defer func() { _ = docs.Close(context.WithoutCancel(cmd.Context())) }() // nothing was written
			}
			return t.open(cmd.Context(), func(ctx context.Context, p pipeline) error {
				f, err := t.search(ctx, p, docs, args[0])
				if err != nil {
					return err
				}
				return t.found(f)
			})
		},
	}
	t.mongoFlag(cmd)
	return cmd
}

func (t *tool) mongoFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.mongoURL, "mongo", "", "URL of the store, such as mongodb://127.0.0.1:27017/ (default: MONGO_URL, or MONGO_HOST and MONGO_PORT)")
}

// store says where the store is; nil if nothing names it.
func (t *tool) store() (*config.Mongo, error) {
	if t.getenv("MONGO_URL")+t.getenv("MONGO_URL_FILE")+t.getenv("MONGO_HOST") == "" {
		return nil, nil
	}
	var s config.Mongo
	return &s, t.settings(&s)
}

// found is what is known of an event, for JSON.
type found struct {
	ID       string            `json:"id"`
	Places   []place           `json:"places"`
	Problems []operate.Problem `json:"problems,omitempty"` // of the stages that still have to handle it
	Progress []stage.Step      `json:"progress,omitempty"`
	Document *document         `json:"document,omitempty"`
	Store    string            `json:"store"`            // "asked", "not asked" or why it did not answer
	Writer   string            `json:"writer,omitempty"` // on a Redis Cluster, the journal of the email process that its shard belongs to
	now      time.Time
}

type place struct {
	inspect.Place
	Do string `json:"do,omitempty"` // the command that replays it
}

// document has neither address nor place: whoever may see those asks the store.
type document struct {
	SubmittedAt time.Time `json:"submitted_at"`
	StoredAt    time.Time `json:"stored_at"`
}

// search looks for an event everywhere. docs may be nil.
func (t *tool) search(ctx context.Context, p pipeline, docs *records.Store, id string) (found, error) {
	places, err := p.Find(ctx, id)
	if err != nil {
		return found{}, err
	}
	seen, err := p.Observer(0).Observe(ctx)
	if err != nil {
		return found{}, err
	}
	f := found{ID: id, Store: "not asked", Places: make([]place, 0, len(places)), now: seen.At}
	if n := len(seen.Shards); n > 0 {
		f.Writer = seen.Shards[stage.ShardOf(id, n)].Writer("email")
	}
	for _, p := range places {
		x := place{Place: p}
		if p.State == inspect.Aside {
			x.Do = operate.Replay(t.called(), inspect.DeadLetter{Channel: p.Channel, Entry: p.Entry})
		}
		f.Places = append(f.Places, x)
	}
	f.Problems = slices.DeleteFunc(operate.Problems(seen, t.called()), func(x operate.Problem) bool {
		return !slices.ContainsFunc(f.Places, func(p place) bool { return p.open() && p.Group == x.Stage && p.Channel == x.Channel })
	})
	if f.Progress, err = p.Progress(ctx, id); err != nil && !errors.Is(err, stage.ErrNotFound) {
		return found{}, err
	}
	if docs != nil {
		f.Store = "asked"
		all, err := docs.FindByIDs(ctx, []string{id})
		if err != nil {
			f.Store = err.Error() // the rest is worth showing
		} else if r, ok := all[id]; ok {
			f.Document = &document{r.SubmittedAt, r.StoredAt}
		}
	}
	return f, nil
}

// found writes what is known of an event. Its error is stage.ErrNotFound if that is nothing.
func (t *tool) found(f found) error {
	write := t.foundText
	if t.output == "json" {
		write = func(f found) error { return t.json(f) }
	}
	if err := write(f); err != nil {
		return err
	}
	if len(f.Places)+len(f.Progress) > 0 || f.Document != nil {
		return nil
	}
	perhaps := ": it went all the way (--mongo looks for its document), was never accepted, or its dead letter was dropped"
	if f.Store == "asked" {
		perhaps = " and has no document: it was never accepted, or its dead letter was dropped"
	}
	return fmt.Errorf("event %s is nowhere%s: %w", visible(f.ID), perhaps, stage.ErrNotFound)
}

func (t *tool) foundText(f found) error {
	var b strings.Builder
	fmt.Fprintf(&b, "event      %s\n", visible(f.ID))
	if len(f.Places) > 0 {
		fmt.Fprintf(&b, "submitted  %s, %s ago\n", clock(f.Places[0].At), operate.Ago(f.now, f.Places[0].At))
	}
	switch {
	case f.Document != nil:
		fmt.Fprintf(&b, "document   stored %s\n", clock(f.Document.StoredAt))
	case f.Store == "asked":
		b.WriteString("document   none\n")
	default:
		fmt.Fprintf(&b, "document   %s\n", printable(f.Store))
	}
	if f.Writer != "" {
		fmt.Fprintf(&b, "writer     %s: its log has the line, or will have it\n", visible(f.Writer))
	}
	label := "progress"
	for _, p := range f.Progress {
		fmt.Fprintf(&b, "%-10s %s: %s %s\n", label, visible(p.Stage), p.State, clock(p.At))
		label = ""
	}
	var rows [][]string
	var advice strings.Builder
	for _, p := range f.Places {
		group, where := visible(p.Group), p.State
		if p.State == inspect.Unread {
			group, where = "-", "done"
		}
		cells := []string{visible(p.Channel), group, where, operate.Ago(f.now, p.Since), strconv.Itoa(p.Tries), strconv.Itoa(p.Crashes)}
		rows = append(rows, append(cells, p.why(f.now)...))
		if p.Do != "" {
			fmt.Fprintf(&advice, "\nOnce the cause is fixed, replay it:\n    %s\n", p.Do)
		}
	}
	if len(rows) > 0 {
		b.WriteByte('\n')
		table(&b, []string{"CHANNEL", "STAGE", "WHERE", "SINCE", "TRIES", "CRASHES"}, rows)
	}
	writeProblems(&advice, f.Problems)
	_, err := io.WriteString(t.Out, b.String()+advice.String())
	return err
}

// why has a line for each thing that keeps the event there.
func (p place) why(now time.Time) (parts []string) {
	if p.Error != "" {
		parts = append(parts, visible(p.Error))
	}
	switch {
	case p.State == inspect.Retrying:
		parts = append(parts, "next try in "+operate.Ago(p.Due, now))
	case p.State == inspect.Pending:
		parts = append(parts, "delivered to "+visible(p.Consumer))
	case p.State == inspect.Unread && p.Channel == event.EmailSent:
		parts = append(parts, "done: emailed at "+clock(p.Since))
	case p.State == inspect.Unread:
		parts = append(parts, "done: no stage reads this channel")
	}
	return parts
}

// open is true while the stage still has to handle the event.
func (p place) open() bool {
	return p.State == inspect.Waiting || p.State == inspect.Pending || p.State == inspect.Retrying
}
