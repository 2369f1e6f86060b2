package email

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/services/email/journal"
)

// askedStore keeps in order what the store was asked for.
type askedStore struct {
	memory
	asked []string
}

func (s *askedStore) Distances(ctx context.Context, ids []string) (map[string]records.Distance, error) {
	s.asked = append(s.asked, "ids "+strings.Join(ids, " "))
	return s.memory.Distances(ctx, ids)
}

func (s *askedStore) Newest(ctx context.Context, email string) (records.Record, bool, error) {
	s.asked = append(s.asked, "newest "+email)
	return s.memory.Newest(ctx, email)
}

// fakeLog is a log in memory.
type fakeLog struct {
	known           map[string]journal.Written
	text            []string
	findErr, outErr error
}

func (l *fakeLog) Find(ids []string) (map[string]journal.Written, error) {
	found := map[string]journal.Written{}
	for _, id := range ids {
		if w, ok := l.known[id]; ok {
			found[id] = w
		}
	}
	return found, l.findErr
}

func (l *fakeLog) TooOld(at, now time.Time) bool { return now.Sub(at) > 30*24*time.Hour }

func (l *fakeLog) Write(sent time.Time, lines []journal.Line) ([]journal.Written, error) {
	if l.outErr != nil {
		return nil, l.outErr
	}
	var out []journal.Written
	for _, x := range lines {
		out = append(out, journal.Written{SentAt: sent, Miles: x.Miles})
		l.text = append(l.text, x.Text)
	}
	return out, nil
}

func (l *fakeLog) Probe() error { return l.outErr }

var (
	errStore = errors.New("store is away")
	errDisk  = errors.New("disk is full")
	evening  = time.Date(2026, 11, 21, 21, 36, 47, 180_900_000, time.UTC)
)

// handled is what Handle makes of an event.
type handled struct {
	miles float64
	sent  time.Time
	err   error
}

const ada, bob = event.Address("ada@example.com"), event.Address("bob@example.com")

var (
	sentAt  = evening.Truncate(time.Millisecond)
	earlier = sentAt.Add(-time.Hour)
)

func now(miles float64) handled { return handled{miles: miles, sent: sentAt} }

func ev(id string, to event.Address) addressEvent {
	return addressEvent{ID: id, Body: to, At: evening.Add(-time.Second)}
}

func bare(e addressEvent) addressEvent { e.Adopted = true; return e }

func owned(e addressEvent, since time.Time) addressEvent { e.OwnedSince = since; return e }

func old(e addressEvent) addressEvent { e.At = evening.Add(-31 * 24 * time.Hour); return e }

func eveningLine(to, miles string) string {
	return "21:36:47,180 root INFO Email sent to: " + to + "; Message: You are " + miles + " miles from Velocity."
}

// handleCases: the store has the events 1 (12 miles) and 2 (0.5), and 7 miles for ada's newest; the
// log has the event k.
var handleCases = map[string]struct {
	in    []addressEvent
	away  bool // the store
	log   fakeLog
	want  []handled
	text  []string
	asked []string
}{
	"a batch": {
		in:    []addressEvent{ev("1", ada), ev("2", bob)},
		want:  []handled{now(12), now(0.5)},
		text:  []string{eveningLine("ada@example.com", "12.0"), eveningLine("bob@example.com", "0.5")},
		asked: []string{"ids 1 2"},
	},
	"known": {
		in:    []addressEvent{ev("k", ada), ev("1", ada)},
		want:  []handled{{miles: 99, sent: earlier}, now(12)},
		text:  []string{eveningLine("ada@example.com", "12.0")},
		asked: []string{"ids 1"},
	},
	"known and old, the store away": {
		in:   []addressEvent{old(ev("k", ada))},
		away: true,
		want: []handled{{miles: 99, sent: earlier}},
	},
	"twice in a batch": {
		in:    []addressEvent{ev("1", ada), ev("2", bob), ev("1", ada)},
		want:  []handled{now(12), now(0.5), now(12)},
		text:  []string{eveningLine("ada@example.com", "12.0"), eveningLine("bob@example.com", "0.5")},
		asked: []string{"ids 1 2"},
	},
	"one without a record": {
		in:    []addressEvent{ev("none", ada), ev("2", bob), ev("none", ada)},
		want:  []handled{{err: errNoRecord}, now(0.5), {err: errNoRecord}},
		text:  []string{eveningLine("bob@example.com", "0.5")},
		asked: []string{"ids none 2"},
	},
	"bare addresses": {
		in:    []addressEvent{bare(ev("x", ada)), ev("2", bob), bare(ev("y", ada)), bare(ev("z", "eve@example.com"))},
		want:  []handled{now(7), now(0.5), now(7), {err: errNoRecord}},
		text:  []string{eveningLine("ada@example.com", "7.0"), eveningLine("bob@example.com", "0.5"), eveningLine("ada@example.com", "7.0")},
		asked: []string{"ids 2", "newest ada@example.com", "newest eve@example.com"},
	},
	"forged address": {
		in:    []addressEvent{ev("1", "ada@example.com\n21:36:47,180 root INFO"), ev("2", bob)},
		want:  []handled{{err: stage.ErrPermanent}, now(0.5)},
		text:  []string{eveningLine("bob@example.com", "0.5")},
		asked: []string{"ids 2"},
	},
	"too old": {
		in:   []addressEvent{old(ev("1", ada)), old(ev("1", ada))},
		want: []handled{{err: errTooOld}, {err: errTooOld}},
	},
	"submitted again, to another writer": { // the records of 1 and 2 are new, that of o is of the event's time
		in:    []addressEvent{owned(ev("1", ada), time.Now().Add(time.Hour)), owned(ev("2", bob), evening), owned(ev("o", ada), sentAt), owned(ev("k", ada), sentAt)},
		want:  []handled{{err: errRepeat}, now(0.5), now(3), {miles: 99, sent: earlier}},
		text:  []string{eveningLine("bob@example.com", "0.5"), eveningLine("ada@example.com", "3.0")},
		asked: []string{"ids 1 2 o"},
	},
	"store away": {
		in:    []addressEvent{ev("1", ada), bare(ev("x", ada))},
		away:  true,
		want:  []handled{{err: errStore}, {err: errStore}},
		asked: []string{"ids 1", "newest ada@example.com"},
	},
	"disk full": {
		in:    []addressEvent{ev("1", ada), ev("k", ada), ev("none", ada), ev("1", ada)},
		log:   fakeLog{outErr: errDisk},
		want:  []handled{{err: errDisk}, {miles: 99, sent: earlier}, {err: errNoRecord}, {err: errDisk}},
		asked: []string{"ids 1 none"},
	},
	"journal away": {
		in:   []addressEvent{ev("1", ada), ev("k", ada)},
		log:  fakeLog{findErr: errDisk},
		want: []handled{{err: errDisk}, {err: errDisk}},
	},
}

func TestHandle(t *testing.T) {
	for name, tc := range handleCases {
		t.Run(name, func(t *testing.T) {
			var store askedStore
			store.put("1", "one@example.com", 12)
			store.put("2", "two@example.com", 0.5)
			store.put("n", ada, 7)
			store.docs["o"] = records.Record{ID: "o", Email: "o@example.com", Miles: 3, SubmittedAt: evening.Add(-time.Second)}
			store.turn(tc.away)
			tc.log.known = map[string]journal.Written{"k": {SentAt: earlier, Miles: 99}}
			var copied strings.Builder
			var utc Zone
			stagetest.OK(t, utc.UnmarshalText([]byte("UTC")))
			h := Handler{
				Store: &store, Log: &tc.log, Office: "Velocity", Zone: utc,
				Now: func() time.Time { return evening }, Copy: func(b []byte) { copied.Write(b) },
			}
			got := h.Handle(t.Context(), tc.in)
			if len(got) != len(tc.in) {
				t.Fatalf("%d results for %d events", len(got), len(tc.in))
			}
			for i, r := range got {
				w := tc.want[i]
				if w.err != nil {
					down := errors.Is(w.err, errDisk)
					dead := errors.Is(w.err, errTooOld) || errors.Is(w.err, errRepeat) || errors.Is(w.err, stage.ErrPermanent)
					if !errors.Is(r.Err, w.err) || len(r.Out) != 0 || errors.Is(r.Err, stage.ErrDown) != down || errors.Is(r.Err, stage.ErrPermanent) != dead {
						t.Errorf("event %d: %+v, want %v (down %v, permanent %v)", i, r, w.err, down, dead)
					}
					continue
				}
				sent := event.Sent{ID: tc.in[i].ID, Email: tc.in[i].Body, Miles: w.miles, SentAt: w.sent}
				if r.Err != nil || len(r.Out) != 1 || r.Out[0] != (stage.Message{Body: sent}) {
					t.Errorf("event %d: %+v, want %+v", i, r, sent)
				}
			}
			if !slices.Equal(tc.log.text, tc.text) {
				t.Errorf("lines %q, want %q", tc.log.text, tc.text)
			}
			if !slices.Equal(store.asked, tc.asked) {
				t.Errorf("the store was asked %q, want %q", store.asked, tc.asked)
			}
			if want := strings.Join(append(tc.text, ""), "\n"); copied.String() != want {
				t.Errorf("copy %q, want %q", copied.String(), want)
			}
		})
	}
}

func TestProbe(t *testing.T) {
	for name, tc := range map[string]struct {
		away       bool // the store
		disk, want error
	}{
		"fine": {}, "store": {away: true, want: errStore}, "disk": {disk: errDisk, want: errDisk},
	} {
		h := Handler{Store: &memory{off: tc.away}, Log: &fakeLog{outErr: tc.disk}}
		if got := h.probe(t.Context()); !errors.Is(got, tc.want) {
			t.Errorf("%s: probe = %v, want %v", name, got, tc.want)
		}
	}
}

// TestCopier: a reader that blocks or fails delays nothing.
func TestCopier(t *testing.T) {
	r, w := io.Pipe() // blocks, since nobody reads
	c := newCopier(w, newFigures(0).dropped, quiet)
	for range 3 * copierBatches {
		c.write([]byte("line\n"))
	}
	if err := r.CloseWithError(errors.New("gone")); err != nil { // fails from now on
		t.Fatal(err)
	}
	c.close()

	var got strings.Builder
	c = newCopier(&got, newFigures(0).dropped, quiet)
	for range 10 {
		c.write([]byte("line\n"))
	}
	c.close()
	c.write([]byte("late\n"))
	if want := strings.Repeat("line\n", 10); got.String() != want {
		t.Errorf("copy %q, want %q", got.String(), want)
	}
}
