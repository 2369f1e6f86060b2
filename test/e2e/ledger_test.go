//go:build unix

package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

// ledger puts load on a pipeline and remembers what it was promised, to be compared with what became of it. Each
// submission has an address of its own.
type ledger struct {
	p    *pipeline
	last atomic.Int64 // number of the last submission

	mu       sync.Mutex
	accepted map[string]visit // answered 201, by event ID
	open     map[string]visit // sent, but not answered 201: kept once or not at all; by address
	bare     map[string]visit // only published, with PUBLISH; by address
	refused  int              // answers 503
}

func newLedger(p *pipeline) *ledger {
	return &ledger{p: p, accepted: map[string]visit{}, open: map[string]visit{}, bare: map[string]visit{}}
}

// burst is how often the load comes: many at once, so that there is something pending.
const burst = 250 * time.Millisecond

// load submits about perSecond times a second, in bursts, at each web-api in turn. Every second submission has an
// idempotency key and is sent again until it is answered 201; the others are sent once, whatever comes back.
// The returned function ends the load and waits for what is under way.
func (l *ledger) load(perSecond int, edges ...*service) (stop func()) {
	end := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		tick := time.NewTicker(burst)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			for range max(1, perSecond*int(burst)/int(time.Second)) {
				all.Go(func() { l.submit(end, edges) })
			}
		}
	})
	return func() { close(end); all.Wait() }
}

// keyedTries is how often a submission with a key is sent before it stays open.
const keyedTries = 50

// submit sends one submission.
func (l *ledger) submit(end <-chan struct{}, edges []*service) {
	n := l.last.Add(1)
	v := visit{fmt.Sprintf("visitor-%d@example.com", n), fmt.Sprintf("%.4f", float64(n%1790)/10-89.5), fmt.Sprintf("%.4f", float64(n%3590)/10-179.5)}
	key, tries := "", 1
	if n%2 == 0 {
		key, tries = v.Email, keyedTries
	}
	for try := range tries {
		status, id, err := post(l.p.t, edges[(int(n)+try)%len(edges)].url, v, key)
		switch {
		case err == nil && status == http.StatusCreated:
			l.mu.Lock()
			defer l.mu.Unlock()
			if other, twice := l.accepted[id]; twice {
				l.p.t.Errorf("event ID %s was given to %+v and to %+v", id, other, v)
			}
			l.accepted[id] = v
			return
		case err == nil && status == http.StatusServiceUnavailable:
			l.mu.Lock()
			l.refused++
			l.mu.Unlock()
		case err == nil:
			l.p.t.Errorf("POST /distance of %+v: %d; want 201 or 503", v, status)
		}
		if try+1 < tries {
			select {
			case <-time.After(200 * time.Millisecond): // the client is asked to wait for Retry-After; a few may be impatient
			case <-end:
				tries = min(tries, try+10)
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[v.Email] = v
}

// publish is load from elsewhere: bare PUBLISHes of raw_input and calculated_distance, about perSecond a second, which
// write to no stream. What nobody was subscribed to is not counted: Redis promises nothing for it.
func (l *ledger) publish(perSecond int) (stop func()) {
	rdb := l.p.redis.Client()
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer rdb.Close()
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			v := visit{fmt.Sprintf("stranger-%d@example.com", n), "40.7128", "-74.0060"}
			channel, payload := event.RawInput, fmt.Sprintf(`{"email":%q,"lat":%q,"long":%q}`, v.Email, v.Lat, v.Long)
			if n%2 == 0 {
				channel, payload = event.CalculatedDistance, fmt.Sprintf(`{"email":%q,"distance_from_velocity":12.5,"lat":%q,"long":%q}`, v.Email, v.Lat, v.Long)
			}
			heard, err := rdb.Publish(context.Background(), channel, payload).Result()
			if err != nil {
				l.p.t.Errorf("PUBLISH %s: %v", channel, err)
				return
			}
			if heard > 0 {
				l.mu.Lock()
				l.bare[v.Email] = v
				l.mu.Unlock()
			}
		}
	}()
	return func() { close(end); <-ended }
}

// counts is the ledger at one moment.
type counts struct {
	accepted, bare, open, refused int // promised, published, unknown, and answers 503
	kept                          int // of the open ones
	documents, lines, dead        int
}

func (c counts) String() string {
	return fmt.Sprintf("accepted %d, bare %d, not answered 201 %d (of these kept %d), answers 503 %d; documents %d, lines %d, dead letters %d",
		c.accepted, c.bare, c.open, c.kept, c.refused, c.documents, c.lines, c.dead)
}

// document is what the ledger wants to know of one.
type document struct {
	ID    string  `bson:"_id"`
	Email string  `bson:"email"`
	Miles float64 `bson:"distance_from_velocity"`
	Lat   string  `bson:"lat"`
	Long  string  `bson:"long"`
}

// working tells what is not settled yet, "" if nothing is, and how much that is.
func (l *ledger) working(look *inspect.Pipeline) (what string, n int) {
	for _, c := range hops {
		s, err := look.Status(l.p.t.Context(), c)
		if err != nil {
			return err.Error(), 0
		}
		n += s.Due
		if s.Due > 0 {
			what += fmt.Sprintf(" %s: %d retries due later.", c, s.Due)
		}
		for _, g := range s.Groups {
			n += g.Backlog
			if g.Backlog > 0 {
				what += fmt.Sprintf(" %s: %d unsettled by %s, of these %d pending %+v.", c, g.Backlog, g.Name, g.Pending, g.Consumers)
			}
		}
	}
	return what, n
}

// deadLetters counts those of all channels and shows the first few.
func (l *ledger) deadLetters(look *inspect.Pipeline) (n int) {
	for _, c := range hops {
		letters, err := look.DeadLetters(l.p.t.Context(), c, "", 10_000)
		if err != nil {
			l.p.t.Errorf("dead letters of %s: %v", c, err)
		}
		for _, d := range letters[:min(3, len(letters))] {
			l.p.t.Errorf("dead letter of %s for %s: event %s, %q, tries %d, crashes %d", c, d.Group, d.ID, d.Error, d.Tries, d.Crashes)
		}
		n += len(letters)
	}
	return n
}

// balance waits until everything that was promised has arrived and nothing is under way, however long that takes while
// there is progress, and compares the sets: each accepted event ID has its document, each document exactly one line, and
// nothing else is there.
func (l *ledger) balance() counts {
	t := l.p.t
	t.Helper()
	look := l.p.look()
	l.mu.Lock()
	defer l.mu.Unlock()
	want := len(l.accepted) + len(l.bare)
	var quiet int
	var seen string
	for moved := time.Now(); quiet < 2; time.Sleep(100 * time.Millisecond) {
		what, n := l.working(look)
		lines := l.p.sent().total
		quiet++
		if what != "" || lines < want {
			quiet = 0
		}
		if now := fmt.Sprint(n, lines); now != seen {
			seen, moved = now, time.Now()
		}
		if time.Since(moved) > patience {
			t.Errorf("nothing has moved for %s, with %d lines of at least %d.%s", patience, lines, want, what)
			break
		}
	}

	var docs []document
	found, err := l.p.users().Find(t.Context(), bson.D{})
	if err == nil {
		err = found.All(t.Context(), &docs)
	}
	if err != nil {
		t.Fatalf("read the documents: %v", err)
	}
	sent := l.p.sent()
	count, miles, total := sent.of, sent.miles, sent.total
	sum := counts{accepted: len(l.accepted), bare: len(l.bare), open: len(l.open), refused: l.refused,
		documents: len(docs), lines: total, dead: l.deadLetters(look)}
	byID, perEmail := map[string]document{}, map[string]int{}
	for _, d := range docs {
		byID[d.ID] = d
		perEmail[d.Email]++
	}
	var wrong complaints
	promised := maps.Clone(l.bare)
	for id, v := range l.accepted {
		promised[v.Email] = v
		if d, ok := byID[id]; !ok {
			wrong.add("accepted event %s of %s has no document", id, v.Email)
		} else if d.Email != v.Email || d.Lat != v.Lat || d.Long != v.Long {
			wrong.add("accepted event %s is %+v, but its document is %+v", id, v, d)
		}
	}
	for email := range promised {
		if perEmail[email] != 1 {
			wrong.add("%s has %d documents, want 1", email, perEmail[email])
		}
		if count[email] != 1 {
			wrong.add("%s has %d lines, want 1", email, count[email])
		}
	}
	for email := range l.open {
		if perEmail[email] > 1 || count[email] != perEmail[email] {
			wrong.add("%s, not answered 201, has %d documents and %d lines; want one of each or none", email, perEmail[email], count[email])
		}
		sum.kept += perEmail[email]
	}
	for _, d := range docs {
		if _, ours := promised[d.Email]; !ours && l.open[d.Email].Email == "" {
			wrong.add("there is a document nobody submitted: %+v", d)
		}
		if got, err := strconv.ParseFloat(miles[d.Email], 64); count[d.Email] > 0 && (err != nil || got != d.Miles) {
			wrong.add("the line of %s says %s miles, its document %v", d.Email, miles[d.Email], d.Miles)
		}
	}
	whole := 0
	for email, n := range count {
		whole += n
		if perEmail[email] == 0 {
			wrong.add("there is a line for %s, but no document", email)
		}
	}
	if whole != total {
		wrong.add("%d lines end in the middle", total-whole)
	}
	wrong.tell(t)
	if sum.dead != 0 {
		t.Errorf("%d dead letters, want none", sum.dead)
	}
	return sum
}

// complaints are kept short: a broken ledger is broken in many places.
type complaints []string

func (c *complaints) add(format string, args ...any) { *c = append(*c, fmt.Sprintf(format, args...)) }

func (c complaints) tell(t testing.TB) {
	t.Helper()
	slices.Sort(c)
	for _, s := range c[:min(15, len(c))] {
		t.Error(s)
	}
	if len(c) > 15 {
		t.Errorf("… and %d more", len(c)-15)
	}
}

// pending is the number of entries that some stage has been given and has not settled, of one group or of all ("").
func (p *pipeline) pending(rdb *redis.Client, group string) (n int) {
	for i, c := range hops {
		g := all[i+1]
		if group != "" && g != group {
			continue
		}
		if x, err := rdb.XPending(context.Background(), c, g).Result(); err == nil {
			n += int(x.Count)
		}
	}
	return n
}
