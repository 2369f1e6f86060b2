package email

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/pkg/telemetry"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// memory is a store in memory that can be switched off.
type memory struct {
	mu   sync.Mutex
	docs map[string]records.Record
	off  bool
}

func (m *memory) put(id string, to event.Address, miles float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.docs == nil {
		m.docs = map[string]records.Record{}
	}
	m.docs[id] = records.Record{ID: id, Email: string(to), Miles: miles, SubmittedAt: time.Now()}
}

func (m *memory) turn(off bool) { m.mu.Lock(); defer m.mu.Unlock(); m.off = off }

func (m *memory) Ping(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.off {
		return errStore
	}
	return nil
}

func (m *memory) Distances(ctx context.Context, ids []string) (map[string]float64, error) {
	if err := m.Ping(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	found := map[string]float64{}
	for _, id := range ids {
		if r, ok := m.docs[id]; ok {
			found[id] = r.Miles
		}
	}
	return found, nil
}

func (m *memory) Newest(ctx context.Context, email string) (r records.Record, ok bool, err error) {
	if err := m.Ping(ctx); err != nil {
		return r, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.docs {
		if d.Email == email && (!ok || d.SubmittedAt.After(r.SubmittedAt)) {
			r, ok = d, true
		}
	}
	return r, ok, nil
}

// rig is a pipeline of this stage alone.
type rig struct {
	t      testing.TB
	redis  *redis.Options
	broker *stage.Broker
	store  *memory
	path   string
	pub    *stage.Publisher
}

func newRig(t testing.TB, o *redis.Options) *rig {
	t.Helper()
	g := &rig{t: t, redis: o, store: &memory{}, path: filepath.Join(t.TempDir(), "log")}
	g.broker = g.open()
	g.pub = g.broker.Publisher("test", event.UserEmail)
	t.Cleanup(func() {
		if err := errors.Join(g.pub.Close(), g.broker.Close()); err != nil {
			t.Error(err)
		}
	})
	return g
}

func (g *rig) open() *stage.Broker {
	g.t.Helper()
	b, err := stage.Open(stage.Options{Redis: g.redis, Log: quiet, Lease: time.Second})
	if err != nil {
		g.t.Fatal(err)
	}
	return b
}

// start runs the stage until stop is called or the test ends. The admin tells its readiness.
func (g *rig) start(change ...func(*Deps)) (a *telemetry.Admin, stop func()) {
	g.t.Helper()
	d := Deps{
		Broker: g.broker, Store: g.store, Office: "Velocity", Settings: Settings{SentEmails: g.path},
		Tuning: config.Tuning{MaxTries: 50, Adopt: true}, Log: quiet, Admin: telemetry.NewAdmin(),
	}
	for _, f := range change {
		f(&d)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, d) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			g.t.Errorf("Run = %v, want nil after a drain", err)
		}
	})
	g.t.Cleanup(stop)
	return d.Admin, stop
}

// publish makes n events with records.
func (g *rig) publish(n int) (ids []string) {
	g.t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		id, to := uuid.Must(uuid.NewV7()).String(), address(i)
		ids = append(ids, id)
		g.store.put(id, to, float64(i))
		wg.Go(func() {
			if _, err := g.pub.Publish(context.Background(), stage.Submission{ID: id, Body: to}); err != nil {
				g.t.Errorf("publish: %v", err)
			}
		})
	}
	wg.Wait()
	return ids
}

func address(i int) event.Address { return event.Address(fmt.Sprintf("user%d@example.com", i)) }

// lines counts the log's lines by their text after the time.
func (g *rig) lines() map[string]int {
	g.t.Helper()
	b, err := os.ReadFile(g.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		g.t.Fatal(err)
	}
	seen := map[string]int{}
	for l := range strings.Lines(string(b)) {
		_, text, _ := strings.Cut(strings.TrimSuffix(l, "\n"), " ")
		seen[text]++
	}
	return seen
}

func lineOf(to event.Address, miles string) string {
	return fmt.Sprintf("root INFO Email sent to: %s; Message: You are %s miles from Velocity.", to, miles)
}

// wantLines waits for the lines of the events of publish(n), and that there are no others.
func (g *rig) wantLines(n int) {
	g.t.Helper()
	stagetest.Eventually(g.t, fmt.Sprint(n, " lines"), func() bool { return len(g.lines()) >= n })
	got := g.lines()
	for i := range n {
		l := lineOf(address(i), pythonFloat(float64(i)))
		if got[l] != 1 {
			g.t.Errorf("%d lines %q, want 1", got[l], l)
		}
	}
	if len(got) != n {
		g.t.Errorf("%d different lines, want %d", len(got), n)
	}
}

// settled waits until nothing of the stage's input is pending or undelivered, and returns its dead
// letters.
func (g *rig) settled() []inspect.DeadLetter {
	g.t.Helper()
	c := redis.NewClient(g.redis)
	defer c.Close()
	stagetest.Eventually(g.t, "everything is settled", func() bool {
		p, err := c.XPending(context.Background(), event.UserEmail, "email").Result()
		if err != nil {
			g.t.Fatal(err)
		}
		groups, err := c.XInfoGroups(context.Background(), event.UserEmail).Result()
		if err != nil {
			g.t.Fatal(err)
		}
		last, err := c.XRevRangeN(context.Background(), event.UserEmail, "+", "-", 1).Result()
		if err != nil {
			g.t.Fatal(err)
		}
		return p.Count == 0 && (len(last) == 0 || groups[0].LastDeliveredID == last[0].ID)
	})
	dead, err := inspect.New(g.broker).DeadLetters(context.Background(), event.UserEmail, "", 100)
	if err != nil {
		g.t.Fatal(err)
	}
	return dead
}

// news counts what was forwarded on email:sent, by event ID.
func (g *rig) news() map[string]int {
	g.t.Helper()
	c := redis.NewClient(g.redis)
	defer c.Close()
	entries, err := c.XRange(context.Background(), event.EmailSent, "-", "+").Result()
	if err != nil {
		g.t.Fatal(err)
	}
	seen := map[string]int{}
	for _, e := range entries {
		id, _ := e.Values["id"].(string)
		seen[id]++
	}
	return seen
}

func (g *rig) wantNews(ids []string) {
	g.t.Helper()
	got := g.news()
	for _, id := range ids {
		if got[id] != 1 {
			g.t.Errorf("%d times news of event %s, want 1", got[id], id)
		}
	}
	if len(got) != len(ids) {
		g.t.Errorf("news of %d events, want %d", len(got), len(ids))
	}
}

// says reads /readyz.
func says(a *telemetry.Admin) (int, string) {
	w := httptest.NewRecorder()
	a.Handler(false).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	return w.Code, w.Body.String()
}

func waitReady(t *testing.T, a *telemetry.Admin, status int, text string) {
	t.Helper()
	stagetest.Eventually(t, fmt.Sprintf("/readyz is %d and says %q", status, text), func() bool {
		code, body := says(a)
		return code == status && strings.Contains(body, text)
	})
}

func TestRun(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		g := newRig(t, o)
		a, stop := g.start()
		waitReady(t, a, http.StatusOK, "email: ok")
		ids := g.publish(300)
		g.wantLines(300)
		if dead := g.settled(); len(dead) != 0 {
			t.Errorf("dead letters %+v, want none", dead)
		}
		g.wantNews(ids)

		// A bare address from elsewhere gets its newest distance; what is no address, or too old,
		// is set aside.
		g.store.put("elsewhere", address(7), 1234.5)
		c := redis.NewClient(o)
		defer c.Close()
		for _, s := range []string{string(address(7)), "no address", "a@b.c\x1b[2J"} {
			if err := c.Publish(t.Context(), event.UserEmail, s).Err(); err != nil {
				t.Fatal(err)
			}
		}
		stagetest.Eventually(t, "the bare address has its line", func() bool { return g.lines()[lineOf(address(7), "1234.5")] == 1 })
		old := stage.Submission{Body: address(8), At: time.Now().Add(-31 * 24 * time.Hour)}
		if _, err := g.pub.Publish(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		stagetest.Eventually(t, "three dead letters", func() bool { return len(g.settled()) == 3 })
		for _, d := range g.settled() {
			if d.Error == "" || d.Group != "email" {
				t.Errorf("dead letter %+v, want the group and a reason", d)
			}
		}
		stop()

		// The same events again, as if a settle had been lost: known, so no line, and the same
		// news.
		_, stop = g.start()
		defer stop()
		before := g.lines()
		for i, id := range ids[:50] {
			if _, err := g.pub.Publish(t.Context(), stage.Submission{ID: id, Body: address(i)}); err != nil {
				t.Fatal(err)
			}
		}
		stagetest.Eventually(t, "news again", func() bool { return g.news()[ids[49]] == 2 })
		g.settled()
		if after := g.lines(); len(after) != len(before) || after[lineOf(address(3), "3.0")] != 1 {
			t.Errorf("%d different lines after the second delivery, want %d and each once", len(after), len(before))
		}
	})
}

// TestWaits: the store away, no record yet, the log not writable: the stage waits, says so, and
// loses nothing.
func TestWaits(t *testing.T) {
	g := newRig(t, stagetest.Real(t).Options())
	a, _ := g.start()
	waitReady(t, a, http.StatusOK, "email: ok")

	g.store.turn(true)
	ids := g.publish(20)
	waitReady(t, a, http.StatusServiceUnavailable, errStore.Error())
	g.store.turn(false)
	g.wantLines(20)
	waitReady(t, a, http.StatusOK, "email: ok")

	// A folder in the log's place: nothing can be appended.
	if err := errors.Join(os.Rename(g.path, g.path+".1"), os.Mkdir(g.path, 0o700)); err != nil {
		t.Fatal(err)
	}
	ids = append(ids, g.publish(20)...)
	waitReady(t, a, http.StatusServiceUnavailable, "not a regular file")
	if err := os.Remove(g.path); err != nil {
		t.Fatal(err)
	}
	g.wantLines(20)

	late := uuid.Must(uuid.NewV7()).String()
	if _, err := g.pub.Publish(t.Context(), stage.Submission{ID: late, Body: address(99)}); err != nil {
		t.Fatal(err)
	}
	b := g.open()
	defer b.Close()
	c := redis.NewClient(g.redis)
	defer c.Close()
	stagetest.Eventually(t, "the event without a record waits for its next try", func() bool {
		n, err := c.ZCard(context.Background(), event.UserEmail+":due").Result()
		if err != nil {
			t.Fatal(err)
		}
		return n > 0
	})
	g.store.put(late, address(99), 99)
	stagetest.Eventually(t, "it has its line", func() bool { return g.lines()[lineOf(address(99), "99.0")] == 1 })
	if dead := g.settled(); len(dead) != 0 {
		t.Errorf("dead letters %+v, want none", dead)
	}
	g.wantNews(append(ids, late))
}

// TestStandby: a second process is ready, says that it stands by, and goes on with the same
// consumer.
func TestStandby(t *testing.T) {
	g := newRig(t, stagetest.Real(t).Options())
	first, stop := g.start()
	waitReady(t, first, http.StatusOK, "email: ok")
	other := g.open()
	defer other.Close()
	second, stopSecond := g.start(func(d *Deps) { d.Broker = other })
	defer stopSecond()
	waitReady(t, second, http.StatusOK, "email: standby")
	third, stopThird := g.start(func(d *Deps) { d.Broker = other })
	waitReady(t, third, http.StatusOK, "email: standby")
	stopThird() // a standby can be stopped
	ids := g.publish(50)
	g.wantLines(50)
	g.settled()
	stop()
	waitReady(t, second, http.StatusOK, "email: ok")
	for i := 50; i < 80; i++ {
		id := uuid.Must(uuid.NewV7()).String()
		ids = append(ids, id)
		g.store.put(id, address(i), float64(i))
		if _, err := g.pub.Publish(t.Context(), stage.Submission{ID: id, Body: address(i)}); err != nil {
			t.Fatal(err)
		}
	}
	g.wantLines(80)
	g.settled()
	g.wantNews(ids)
	c := redis.NewClient(g.redis)
	defer c.Close()
	consumers, err := c.XInfoConsumers(t.Context(), event.UserEmail, "email").Result()
	if err != nil || len(consumers) != 1 || !strings.HasPrefix(consumers[0].Name, "journal-") {
		t.Errorf("consumers %+v (%v), want the journal's alone", consumers, err)
	}
}

// TestWrongSettings: what waiting does not mend ends the start, with the variable's name.
func TestWrongSettings(t *testing.T) {
	for name, tc := range map[string]struct {
		deps Deps
		want string
	}{
		"folder": {Deps{Office: "Velocity", Settings: Settings{SentEmails: t.TempDir()}}, "SENT_EMAILS: "},
		"device": {Deps{Office: "Velocity", Settings: Settings{SentEmails: os.DevNull}}, "SENT_EMAILS: "},
		"office": {Deps{Office: "Velo\ncity", Settings: Settings{SentEmails: filepath.Join(t.TempDir(), "log")}}, "OFFICE_NAME: "},
	} {
		err := Run(t.Context(), tc.deps)
		if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%s: Run = %v, want an error that begins with %q", name, err, tc.want)
		}
	}
}
