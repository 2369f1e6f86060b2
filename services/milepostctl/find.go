package milepostctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/operate"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

func (t *tool) find() *cobra.Command {
	var mongo mongoFlag
	cmd := &cobra.Command{
		Use:   "find EVENT",
		Short: "Show where an event is, since when, and why",
		Long: `find looks for an event by its ID: in every channel's stream, among the retries and among the dead letters, in the
progress kept for events that somebody watches, and in MongoDB if --mongo, MONGO_URL or MONGO_HOST names one. It says which
stage has it, since when, how often it failed and with which error, and the command that helps.

What every stage has settled leaves the streams soon after. So an event that went all the way is found by its document, by
its progress for an hour, and else not at all.`,
		Example: `  milepostctl find 01a1fcf2-c249-787c-93ac-7be164ea854e
  milepostctl find 01a1fcf2-c249-787c-93ac-7be164ea854e --mongo mongodb://127.0.0.1:27017/ --output json`,
		Args: needs("EVENT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			docs, err := mongo.open(t)
			if err != nil {
				return err
			}
			if docs != nil {
				defer func() { _ = docs.Close(context.WithoutCancel(cmd.Context())) }() // nothing was written
			}
			return t.open(cmd.Context(), func(ctx context.Context, b *stage.Broker) error {
				found, err := t.search(ctx, b, docs, args[0])
				if err != nil {
					return err
				}
				if err := t.found(found); err != nil {
					return err
				}
				if len(found.Places)+len(found.Progress) == 0 && found.Document == nil {
					return fmt.Errorf("event %s is nowhere%s: %w", visible(found.ID), found.perhaps(), stage.ErrNotFound)
				}
				return nil
			})
		},
	}
	mongo.flag(cmd)
	return cmd
}

// mongoFlag names the store.
type mongoFlag struct{ url string }

func (m *mongoFlag) flag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&m.url, "mongo", "", "URL of the store, such as mongodb://127.0.0.1:27017/ (default: MONGO_URL, or MONGO_HOST and MONGO_PORT)")
}

// settings are where the store is; named is false if nothing says so.
func (m *mongoFlag) settings(t *tool) (s config.Mongo, named bool, err error) {
	if m.url != "" {
		if err := s.MongoURL.UnmarshalText([]byte(m.url)); err != nil {
			return s, false, usage(fmt.Sprintf("--mongo: %q %v", config.Mask(m.url), err))
		}
	}
	named = m.url != ""
	for _, v := range []string{"MONGO_URL", "MONGO_URL_FILE", "MONGO_HOST"} {
		named = named || t.Getenv(v) != ""
	}
	if !named {
		return s, false, nil
	}
	url := s.MongoURL
	err = config.Load(func(name string) string {
		if m.url != "" && strings.HasPrefix(name, "MONGO_URL") {
			return ""
		}
		return t.Getenv(name)
	}, &s)
	if url != "" {
		s.MongoURL = url
	}
	return s, true, err
}

// open is the store, nil if none is named.
func (m *mongoFlag) open(t *tool) (*records.Store, error) {
	s, named, err := m.settings(t)
	if err != nil || !named {
		return nil, err
	}
	return records.Open(s.URI(), string(s.MongoDatabase))
}

// found is what is known of an event, for JSON.
type found struct {
	ID       string     `json:"id"`
	Places   []place    `json:"places"`
	Progress []progress `json:"progress,omitempty"`
	Document *document  `json:"document,omitempty"`
	Store    string     `json:"store"` // "asked", "not asked" or why it did not answer
	now      time.Time
}

// place is a [inspect.Place] with what to do.
type place struct {
	inspect.Place
	Stage string `json:"stage_state,omitempty"` // of the stage that has it: running, not running, paused, …
	Why   string `json:"why,omitempty"`         // it is not running
	Do    string `json:"do,omitempty"`          // the command that helps
}

type progress struct {
	Stage string    `json:"stage"`
	State string    `json:"state"`
	At    time.Time `json:"at"`
}

// document has no address and no place: whoever may see those asks the store.
type document struct {
	SubmittedAt time.Time `json:"submitted_at"`
	StoredAt    time.Time `json:"stored_at"`
}

// search asks everyone who may know of an event.
func (t *tool) search(ctx context.Context, b *stage.Broker, docs *records.Store, id string) (found, error) {
	var bar *progressbar.ProgressBar
	places, err := inspect.New(b).Find(ctx, id, func(done, of int) {
		if bar == nil {
			bar = t.bar(of, "entries")
		}
		_ = bar.Set(done) // it is a picture
	})
	if bar != nil {
		_ = bar.Finish()
	}
	if err != nil {
		return found{}, err
	}
	seen, err := inspect.New(b).Observer(0).Observe(ctx)
	if err != nil {
		return found{}, err
	}
	f := found{ID: id, Store: "not asked", Places: make([]place, 0, len(places)), now: seen.At}
	rows := operate.Rows(seen)
	for _, p := range places {
		x := place{Place: p}
		for _, r := range rows {
			if r.Stage == p.Group && r.Channel == p.Channel {
				x.Stage, x.Why = r.State, r.Why
			}
		}
		switch {
		case p.State == inspect.Aside:
			x.Do = operate.Replay(t.called(), inspect.DeadLetter{Channel: p.Channel, Entry: p.Entry})
		case p.State == inspect.Pending, p.State == inspect.Waiting && x.Stage != operate.Running:
			x.Do = operate.Command(t.called(), "status", p.Channel)
		}
		f.Places = append(f.Places, x)
	}
	steps, err := b.Progress(ctx, id)
	if err != nil && !errors.Is(err, stage.ErrNotFound) {
		return found{}, err
	}
	for _, s := range steps {
		f.Progress = append(f.Progress, progress{s.Stage, s.State, s.At})
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

// perhaps says what not being found may mean.
func (f found) perhaps() string {
	if f.Store == "asked" {
		return ", and has no document: it never was accepted, or its dead letter was dropped"
	}
	return ": it went all the way (--mongo looks for its document), never was accepted, or its dead letter was dropped"
}

func (t *tool) found(f found) error {
	if t.output == "json" {
		return t.json(f)
	}
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
	for i, p := range f.Progress {
		label := "progress"
		if i > 0 {
			label = ""
		}
		fmt.Fprintf(&b, "%-10s %s: %s %s\n", label, visible(p.Stage), p.State, clock(p.At))
	}
	if len(f.Places) > 0 {
		b.WriteByte('\n')
		var rows [][]string
		for _, p := range f.Places {
			rows = append(rows, []string{
				visible(p.Channel), orDash(p.Group), p.State, operate.Ago(f.now, p.Since), strconv.Itoa(p.Tries), strconv.Itoa(p.Crashes), p.why(f.now),
			})
		}
		if err := table(&b, []string{"CHANNEL", "STAGE", "WHERE", "SINCE", "TRIES", "CRASHES", "WHY"}, rows); err != nil {
			return err
		}
		for _, p := range f.Places {
			if advice := p.advice(); advice != "" {
				fmt.Fprintf(&b, "\n%s\n", advice)
			}
			if p.Do != "" {
				fmt.Fprintf(&b, "    %s\n", p.Do)
			}
		}
	}
	_, err := io.WriteString(t.Out, b.String())
	return err
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return visible(s)
}

// why says in a few words what keeps the event there.
func (p place) why(now time.Time) string {
	var parts []string
	if p.Error != "" {
		parts = append(parts, visible(p.Error))
	}
	switch p.State {
	case inspect.Retrying:
		parts = append(parts, "next try in "+operate.Ago(p.Due, now))
	case inspect.Pending:
		parts = append(parts, "in the hands of "+visible(p.Consumer))
	case inspect.Unread:
		parts = append(parts, "no stage reads this channel")
	}
	if p.State != inspect.Settled && p.State != inspect.Aside && p.State != inspect.Unread && p.Stage != "" && p.Stage != operate.Running {
		parts = append(parts, fmt.Sprintf("%s is %s: %s", p.Group, p.Stage, printable(p.Why)))
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, "; ")
}

// advice is what to do about it.
func (p place) advice() string {
	switch {
	case p.State == inspect.Aside:
		return "Once the reason is mended, give it back to " + visible(p.Group) + ":"
	case p.State == inspect.Settled || p.State == inspect.Unread:
		return ""
	case p.Stage == operate.NotRunning:
		return "Start " + visible(p.Group) + ": it takes the event up by itself."
	case p.State == inspect.Retrying:
		return "Mend the reason: " + visible(p.Group) + " tries it again by itself, and sets it aside if it keeps failing."
	case p.State == inspect.Pending:
		return "If it stays there, look at the process that holds it:"
	case p.Stage != operate.Running:
		return "Mend what " + visible(p.Group) + " waits for: it takes the event up by itself."
	}
	return visible(p.Group) + " will come to it; see whether its backlog grows."
}
