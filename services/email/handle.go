package email

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/services/email/journal"
)

// Store is where the distances are found.
type Store interface {
	// Distances returns the distances in miles of those events whose records are there and have one, by event ID.
	Distances(ctx context.Context, ids []string) (map[string]float64, error)
	// Newest returns the record of email that was submitted last, and false if there is none.
	Newest(ctx context.Context, email string) (records.Record, bool, error)
	// Ping is nil if the store is there.
	Ping(ctx context.Context) error
}

// Log is the log with its journal.
type Log interface {
	// Find returns those of the events whose lines are in the log, by event ID.
	Find(ids []string) (map[string]journal.Written, error)
	// TooOld reports whether an unknown event of that submission time may have been written and forgotten.
	TooOld(at, now time.Time) bool
	// Write appends lines that show sent as their time of writing and returns what was written for each.
	Write(sent time.Time, lines []journal.Line) ([]journal.Written, error)
	// Probe is nil if lines can be written.
	Probe() error
}

// Handler sends the emails: it writes their lines to the log.
type Handler struct {
	Store  Store
	Log    Log
	Office string             // its name in the line
	Zone   Zone               // of the line's time
	Copy   func(lines []byte) // gets what was written, nil for nobody
	Now    func() time.Time   // default: time.Now
}

// Handle writes a line for each event that has none yet and returns the news of it. The journal is asked first: an event
// whose line is in the log, because its last delivery was not settled, gets the same news again, with the time of its
// one line. An event that may have been forgotten is a dead letter, since its line may be in the log.
//
// An event without a record in the store is tried again. A log that does not take lines is a dependency that is down.
func (h *Handler) Handle(ctx context.Context, in []stage.Event[event.Address]) []stage.Result {
	out := make([]stage.Result, len(in))
	ids := make([]string, len(in))
	for i, e := range in {
		ids[i] = e.ID
	}
	known, err := h.Log.Find(ids)
	if err != nil {
		fail(out, stage.Down(err))
		return out
	}
	now := time.Now
	if h.Now != nil {
		now = h.Now
	}

	// What is left to write: each unknown event once, though a batch may have it twice.
	at := now()
	first := make(map[string]int, len(in))
	unknown := make([]int, 0, len(in))
	for i, e := range in {
		if _, ok := known[e.ID]; ok {
			continue
		}
		if _, twice := first[e.ID]; twice {
			continue
		}
		first[e.ID] = i
		if err := e.Body.Validate(); err != nil { // its line could hold a line of somebody else's making
			out[i].Err = stage.Permanent(err)
		} else if h.Log.TooOld(e.At, at) {
			out[i].Err = stage.Permanent(fmt.Errorf("%w: submitted %s", errTooOld, e.At.UTC().Format(time.RFC3339)))
		} else {
			unknown = append(unknown, i)
		}
	}
	miles := h.distances(ctx, in, unknown, out)

	at = now().In(h.Zone.Location()).Truncate(time.Millisecond)
	lines := make([]journal.Line, 0, len(unknown))
	var text []byte
	for _, i := range unknown {
		if out[i].Err != nil {
			continue
		}
		e := in[i]
		l := journal.Line{ID: e.ID, At: e.At, Miles: miles[i], Text: Line(at, e.Body, miles[i], h.Office)}
		lines = append(lines, l)
		if h.Copy != nil {
			text = append(append(text, l.Text...), '\n')
		}
	}
	if len(lines) > 0 {
		start := time.Now()
		written, err := h.Log.Write(at, lines)
		traceWrite(ctx, start, len(lines), func(n int) stage.Event[event.Address] { return in[first[lines[n].ID]] }, err)
		if err != nil {
			err = stage.Down(err)
			for _, l := range lines {
				out[first[l.ID]].Err = err
			}
		} else {
			if known == nil {
				known = map[string]journal.Written{}
			}
			for n, l := range lines {
				known[l.ID] = written[n]
			}
			if h.Copy != nil {
				h.Copy(text)
			}
		}
	}
	for i, e := range in {
		if w, ok := known[e.ID]; ok {
			out[i].Out = []stage.Message{{Body: event.Sent{ID: e.ID, Email: e.Body, Miles: w.Miles, SentAt: w.SentAt.UTC()}}}
		} else {
			out[i].Err = out[first[e.ID]].Err
		}
	}
	return out
}

var (
	errTooOld   = errors.New("older than what the journal remembers, its line may have been written")
	errNoRecord = errors.New("the store has no record of it yet")
)

// distances looks up the events at the indexes: all at once, but for those that came as a bare address from elsewhere, whose
// ID no record has. What cannot be found gets an error in out.
func (h *Handler) distances(ctx context.Context, in []stage.Event[event.Address], indexes []int, out []stage.Result) (miles []float64) {
	miles = make([]float64, len(in))
	ids := make([]string, 0, len(indexes))
	for _, i := range indexes {
		if !in[i].Adopted {
			ids = append(ids, in[i].ID)
		}
	}
	var found map[string]float64
	var findErr error
	if len(ids) > 0 {
		found, findErr = h.Store.Distances(ctx, ids)
	}
	type newest struct {
		records.Record
		err error
	}
	byAddress := map[event.Address]newest{}
	for _, i := range indexes {
		e := in[i]
		if !e.Adopted {
			distance, ok := found[e.ID]
			switch {
			case findErr != nil:
				out[i].Err = findErr
			case !ok:
				out[i].Err = fmt.Errorf("event %s: %w", e.ID, errNoRecord)
			default:
				miles[i] = distance
			}
			continue
		}
		n, asked := byAddress[e.Body]
		if !asked {
			var ok bool
			n.Record, ok, n.err = h.Store.Newest(ctx, string(e.Body))
			if n.err == nil && !ok {
				n.err = fmt.Errorf("bare address: %w", errNoRecord)
			}
			byAddress[e.Body] = n
		}
		out[i].Err = n.err
		miles[i] = n.Miles
	}
	return miles
}

// fail gives all results one error.
func fail(out []stage.Result, err error) {
	for i := range out {
		out[i].Err = err
	}
}
