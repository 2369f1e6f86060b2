//go:build unix

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/test/process"
)

// ledger puts load on a pipeline and notes what was promised for each submission. At the end it
// compares that with the documents, the lines and the dead letters. Each submission has an address
// of its own.
type ledger struct {
	p    *pipeline
	last atomic.Int64 // number of the last submission
	met  atomic.Int64 // number of the last stranger

	mu      sync.Mutex
	entries map[string]ledgerEntry // by address
	counts
}

// ledgerEntry is a submission and what was promised for it.
type ledgerEntry struct {
	visit
	promise
	id string // the event ID, if it was answered 201
}

type promise int

const (
	accepted promise = iota // answered 201: arrives once
	bare                    // a PUBLISH that somebody heard: arrives once
	open                    // not answered 201: arrives once or not at all
	loose                   // a PUBLISH that perhaps nobody heard: arrives once or not at all
)

func (p promise) String() string {
	return [...]string{"accepted", "bare", "not answered 201", "loose"}[p]
}

// counts is the ledger at one moment.
type counts struct {
	accepted, bare, open, loose, refused int // submissions by promise, and answers 503
	kept, part                           int // of the open and loose ones: whole; a document alone
	documents, lines, dead               int
}

func (c counts) String() string {
	return fmt.Sprintf("accepted %d, bare %d, not answered 201 %d, bare in a gap %d (of these two kept %d, a document alone %d), answers 503 %d; documents %d, lines %d, dead letters %d",
		c.accepted, c.bare, c.open, c.loose, c.kept, c.part, c.refused, c.documents, c.lines, c.dead)
}

func newLedger(p *pipeline) *ledger {
	return &ledger{p: p, entries: map[string]ledgerEntry{}}
}

// sofar returns the counts of what was submitted so far.
func (l *ledger) sofar() counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts
}

func (l *ledger) note(v visit, p promise, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries[v.Email] = ledgerEntry{v, p, id}
	*[]*int{&l.accepted, &l.bare, &l.open, &l.loose}[p]++
}

// every calls do a number of times a second until stop is called. Stop waits for calls under way.
func every(perSecond int, do func(stopped <-chan struct{})) (stop func()) {
	end := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				do(end)
			}
		}
	})
	return func() { close(end); all.Wait() }
}

// burst is the time between bursts of load: with many submissions at once, entries are pending.
const burst = 250 * time.Millisecond

// load submits about perSecond times a second, in bursts, at each web-api in turn, until stop is
// called. Every second submission has an idempotency key and is sent again until it is answered
// 201. The others are sent once.
func (l *ledger) load(perSecond int, edges ...*service) (stop func()) {
	var all sync.WaitGroup
	end := every(int(time.Second/burst), func(stopped <-chan struct{}) {
		for range max(1, perSecond*int(burst)/int(time.Second)) {
			all.Go(func() { l.submit(stopped, edges) })
		}
	})
	return func() { end(); all.Wait() }
}

// submit sends one submission, at most 50 times if it has a key.
func (l *ledger) submit(stopped <-chan struct{}, edges []*service) {
	n := l.last.Add(1)
	v := visit{fmt.Sprintf("visitor-%d@example.com", n), fmt.Sprintf("%.4f", float64(n%1790)/10-89.5), fmt.Sprintf("%.4f", float64(n%3590)/10-179.5)}
	key, tries := "", 1
	if n%2 == 0 {
		key, tries = v.Email, 50
	}
	for try := 0; try < tries; try++ {
		status, id, err := post(l.p.t, edges[(int(n)+try)%len(edges)].url, v, key)
		switch {
		case err == nil && status == http.StatusCreated:
			l.note(v, accepted, id)
			return
		case err == nil && status == http.StatusServiceUnavailable:
			l.mu.Lock()
			l.refused++
			l.mu.Unlock()
		case err == nil:
			l.p.t.Errorf("POST /distance of %+v: %d; want 201 or 503", v, status)
		}
		select {
		case <-time.After(200 * time.Millisecond): // sooner than Retry-After asks: an impatient client
		case <-stopped:
			tries = min(tries, try+10)
		}
	}
	l.note(v, open, "")
}

// publish sends bare PUBLISHes on raw_input and calculated_distance until stop is called. Those
// that nobody heard are not noted: Redis promises nothing for them.
func (l *ledger) publish(perSecond int) (stop func()) {
	return every(perSecond, func(<-chan struct{}) {
		v, channel, payload := l.stranger()
		heard, err := l.p.rdb.Publish(context.Background(), l.p.names+channel, payload).Result()
		if err != nil {
			l.p.t.Errorf("PUBLISH %s: %v", channel, err)
		}
		if heard > 0 {
			l.note(v, bare, "")
		}
	})
}

// stranger makes a message of a program that only publishes, on one of two channels in turn.
func (l *ledger) stranger() (v visit, channel, payload string) {
	n := l.met.Add(1)
	v = visit{fmt.Sprintf("stranger-%d@example.com", n), "40.7128", "-74.0060"}
	if n%2 == 0 {
		return v, event.CalculatedDistance, fmt.Sprintf(`{"email":%q,"distance_from_velocity":12.5,"lat":%q,"long":%q}`, v.Email, v.Lat, v.Long)
	}
	return v, event.RawInput, fmt.Sprintf(`{"email":%q,"lat":%q,"long":%q}`, v.Email, v.Lat, v.Long)
}

// document is what the ledger reads of one.
type document struct {
	ID    string  `bson:"_id"`
	Email string  `bson:"email"`
	Miles float64 `bson:"distance_from_velocity"`
	Lat   string  `bson:"lat"`
	Long  string  `bson:"long"`
}

// balance waits until everything promised has arrived and nothing is under way, for as long as
// there is progress. Then it compares: each promised event has one document and one line, and
// nothing else is there.
func (l *ledger) balance() counts {
	t := l.p.t
	t.Helper()
	look := l.p.look()
	quiet, seen, moved := 0, "", time.Now()
	for quiet < 2 {
		what, left := l.p.unsettled(look, false)
		sum := l.sofar()
		sum.lines = l.p.sent().total
		if quiet++; what != "" || sum.lines < sum.accepted+sum.bare {
			quiet = 0
		}
		if now := fmt.Sprint(left, sum.lines); now != seen {
			seen, moved = now, time.Now()
		}
		if time.Since(moved) > process.Patience {
			t.Errorf("nothing has moved for %s. %s%s", process.Patience, sum, what)
			break
		}
		time.Sleep(100 * time.Millisecond) // between two looks, so that quiet means something
	}

	var docs []document
	found, err := l.p.users().Find(t.Context(), bson.D{})
	if err == nil {
		err = found.All(t.Context(), &docs)
	}
	if err != nil {
		t.Fatalf("read the documents: %v", err)
	}
	wrong := l.compare(docs, l.p.sent())
	about, err := look.Status(t.Context(), event.EmailSent)
	stagetest.OK(t, err)
	n := about.Added
	// A failover may forget what was not answered 201, after its line was written, bare
	// messages too.
	if n != l.lines && !(l.p.redis == nil && n < l.lines && n >= l.lines-l.kept-l.bare) {
		wrong = append(wrong, fmt.Sprintf("%d messages on %s, want one for each of %d lines", n, event.EmailSent, l.lines))
	}
	for _, c := range hops {
		letters, err := look.DeadLetters(t.Context(), c, "", 10_000)
		if err != nil {
			t.Errorf("dead letters of %s: %v", c, err)
		}
		l.dead += len(letters)
		for _, d := range letters {
			wrong = append(wrong, fmt.Sprintf("dead letter of %s for %s: event %s, %q, tries %d, crashes %d", c, d.Group, d.ID, d.Error, d.Tries, d.Crashes))
		}
	}
	slices.Sort(wrong)
	for _, s := range wrong[:min(15, len(wrong))] {
		t.Error(s)
	}
	if len(wrong) > 15 {
		t.Errorf("… and %d more", len(wrong)-15)
	}
	return l.counts
}

// compare counts documents and lines, and returns what is wrong with them.
func (l *ledger) compare(docs []document, sent lines) (wrong []string) {
	l.documents, l.lines = len(docs), sent.total
	stored := map[string][]document{}
	for _, d := range docs {
		stored[d.Email] = append(stored[d.Email], d)
		if _, ours := l.entries[d.Email]; !ours {
			wrong = append(wrong, fmt.Sprintf("the document %+v was not submitted", d))
		}
	}
	whole := 0
	for email, n := range sent.of {
		whole += n
		if _, ours := l.entries[email]; !ours {
			wrong = append(wrong, "the line of "+email+" was not submitted")
		}
	}
	if whole != sent.total {
		wrong = append(wrong, fmt.Sprintf("%d lines end in the middle", sent.total-whole))
	}
	for email, e := range l.entries {
		its, n := stored[email], sent.of[email]
		maybe := e.promise == open || e.promise == loose
		if maybe && len(its) == 0 && n == 0 {
			continue
		}
		if maybe && len(its) == 1 && n == 0 && l.p.redis == nil {
			l.part++ // a failover forgot the rest of its way
			continue
		}
		if len(its) != 1 || n != 1 {
			wrong = append(wrong, fmt.Sprintf("%s, %s, has %d documents and %d lines, want one of each", email, e.promise, len(its), n))
			continue
		}
		if maybe {
			l.kept++
		}
		d := its[0]
		if e.id != "" && e.id != d.ID || d.Lat != e.Lat || d.Long != e.Long {
			wrong = append(wrong, fmt.Sprintf("event %q is %+v, but its document is %+v", e.id, e.visit, d))
		}
		if miles, err := strconv.ParseFloat(sent.miles[email], 64); err != nil || miles != d.Miles {
			wrong = append(wrong, fmt.Sprintf("the line of %s says %s miles, its document %v", email, sent.miles[email], d.Miles))
		}
	}
	return wrong
}

// pending counts the entries that some stage has been given and has not settled, of one group or of
// all ("").
func (p *pipeline) pending(group string) (n int) {
	for i, c := range hops {
		if g := all[i+1]; group == "" || g == group {
			if x, err := p.rdb.XPending(context.Background(), p.names+c, g).Result(); err == nil {
				n += int(x.Count)
			}
		}
	}
	return n
}
