package email

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/services/email/journal"
)

// Store finds the distances; [records.Store] is one.
type Store interface {
	// Distances returns the distances by event ID, for the events whose records have one.
	Distances(ctx context.Context, ids []string) (map[string]records.Distance, error)
	// Newest returns the newest record of email, and false if there is none.
	Newest(ctx context.Context, email string) (records.Record, bool, error)
	// Ping returns nil if the store answers.
	Ping(ctx context.Context) error
}

// Log is the log with its journal; [journal.Journal] is one.
type Log interface {
	// Find returns the events whose lines are in the log, by event ID. The caller may add to
	// the map.
	Find(ids []string) (map[string]journal.Written, error)
	// TooOld reports whether the log may have a forgotten line of an event of that submission
	// time.
	TooOld(at, now time.Time) bool
	// Write appends lines with sent as their time of writing and returns what was written for
	// each.
	Write(sent time.Time, lines []journal.Line) ([]journal.Written, error)
	// Probe returns nil if lines can be written.
	Probe() error
}

// Handler sends the emails: it writes their lines to the log.
type Handler struct {
	Store  Store
	Log    Log
	Office string             // its name in the line
	Zone   Zone               // of the line's time
	Copy   func(lines []byte) // gets what was written; may be nil
	Now    func() time.Time   // default: time.Now
}

type addressEvent = stage.Event[event.Address]

var (
	errTooOld   = errors.New("older than what the journal remembers, its line may have been written")
	errNoRecord = errors.New("the store has no record of it yet")
	errRepeat   = errors.New("submitted again after its shard changed its writer, so its line may be in another log")
)

// Handle writes a line for each event that has none yet and returns its news. It asks the journal
// first: an event whose last delivery was not settled has its line already and gets the same news
// again, with the time of that line. An event that the journal may have forgotten is a dead letter.
//
// So is a repeat of one that another writer may know: see repeated.
//
// An event without a record in the store is tried again. A log that takes no lines is a dependency
// that is down.
func (h *Handler) Handle(ctx context.Context, in []addressEvent) []stage.Result {
	out := make([]stage.Result, len(in))
	ids := make([]string, len(in))
	for i, e := range in {
		ids[i] = e.ID
	}
	known, err := h.Log.Find(ids)
	if err != nil {
		for i := range out {
			out[i].Err = stage.Down(err)
		}
		return out
	}
	failed := map[string]error{} // by event ID
	todo := h.unwritten(in, known, failed)
	miles := h.distances(ctx, todo, failed)
	todo = slices.DeleteFunc(todo, func(e addressEvent) bool { return failed[e.ID] != nil })
	h.write(ctx, todo, miles, known, failed)
	for i, e := range in {
		if w, ok := known[e.ID]; ok {
			out[i].Out = []stage.Message{{Body: event.Sent{ID: e.ID, Email: e.Body, Miles: w.Miles, SentAt: w.SentAt.UTC()}}}
		} else {
			out[i].Err = failed[e.ID]
		}
	}
	return out
}

// unwritten returns the events to write a line for, each once, though a batch may have it twice.
func (h *Handler) unwritten(in []addressEvent, known map[string]journal.Written, failed map[string]error) []addressEvent {
	now := h.now()
	todo := make([]addressEvent, 0, len(in))
	seen := make(map[string]bool, len(in))
	for _, e := range in {
		if _, ok := known[e.ID]; ok || seen[e.ID] {
			continue
		}
		seen[e.ID] = true
		if err := e.Body.Validate(); err != nil { // or an address could forge a line
			failed[e.ID] = stage.Permanent(err)
		} else if h.Log.TooOld(e.At, now) {
			failed[e.ID] = stage.Permanent(fmt.Errorf("%w: submitted %s", errTooOld, e.At.UTC().Format(time.RFC3339)))
		} else {
			todo = append(todo, e)
		}
	}
	return todo
}

// distances finds the miles of the events, by event ID: in one query, but for bare addresses from
// other programs, whose ID no record has.
func (h *Handler) distances(ctx context.Context, events []addressEvent, failed map[string]error) (miles map[string]float64) {
	ids := make([]string, 0, len(events))
	for _, e := range events {
		if !e.Adopted {
			ids = append(ids, e.ID)
		}
	}
	miles = make(map[string]float64, len(events))
	var found map[string]records.Distance
	var err error
	if len(ids) > 0 {
		found, err = h.Store.Distances(ctx, ids)
	}
	for _, e := range events {
		d, ok := found[e.ID]
		switch {
		case e.Adopted:
		case err != nil:
			failed[e.ID] = err
		case !ok:
			failed[e.ID] = fmt.Errorf("event %s: %w", e.ID, errNoRecord)
		case repeated(e, d.SubmittedAt):
			failed[e.ID] = stage.Permanent(fmt.Errorf("%w: first submitted %s", errRepeat, d.SubmittedAt.UTC().Format(time.RFC3339)))
		default:
			miles[e.ID] = d.Miles
		}
	}
	if len(ids) < len(events) {
		miles = h.newest(ctx, events, miles, failed)
	}
	return miles
}

// clocks is how far the edge's clock may be ahead of Redis'.
const clocks = time.Minute

// repeated tells whether the event was submitted before, at that time of its record, when its shard
// may have belonged to another writer, whose journal alone knows whether it has a line.
func repeated(e addressEvent, first time.Time) bool {
	return !e.OwnedSince.IsZero() && !first.IsZero() && first.Before(e.OwnedSince.Add(clocks)) && first.UnixMilli() != e.At.UnixMilli()
}

// newest adds the miles of the bare addresses, each looked up once.
func (h *Handler) newest(ctx context.Context, events []addressEvent, miles map[string]float64, failed map[string]error) map[string]float64 {
	type answer struct {
		miles float64
		err   error
	}
	answers := map[event.Address]answer{}
	for _, e := range events {
		if !e.Adopted {
			continue
		}
		a, asked := answers[e.Body]
		if !asked {
			r, ok, err := h.Store.Newest(ctx, string(e.Body))
			if err == nil && !ok {
				err = fmt.Errorf("bare address: %w", errNoRecord)
			}
			a = answer{r.Miles, err}
			answers[e.Body] = a
		}
		if miles[e.ID] = a.miles; a.err != nil {
			failed[e.ID] = a.err
		}
	}
	return miles
}

// write writes the lines of the events and adds them to those that are known.
func (h *Handler) write(ctx context.Context, events []addressEvent, miles map[string]float64, known map[string]journal.Written, failed map[string]error) {
	if len(events) == 0 {
		return
	}
	at := h.now().In(h.Zone.Location()).Truncate(time.Millisecond)
	lines := make([]journal.Line, len(events))
	for i, e := range events {
		lines[i] = journal.Line{ID: e.ID, At: e.At, Miles: miles[e.ID], Text: Line(at, e.Body, miles[e.ID], h.Office)}
	}
	start := time.Now()
	written, err := h.Log.Write(at, lines)
	traceWrite(ctx, start, events, err)
	if err != nil {
		for _, e := range events {
			failed[e.ID] = stage.Down(err)
		}
		return
	}
	var text []byte
	for i, l := range lines {
		known[l.ID] = written[i]
		if h.Copy != nil {
			text = append(append(text, l.Text...), '\n')
		}
	}
	if h.Copy != nil {
		h.Copy(text)
	}
}

func (h *Handler) now() time.Time {
	if h.Now != nil {
		return h.Now()
	}
	return time.Now()
}

// probe returns nil if the store answers and the log takes lines.
func (h *Handler) probe(ctx context.Context) error {
	if err := h.Store.Ping(ctx); err != nil {
		return err
	}
	return h.Log.Probe()
}
