package email

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/pkg/telemetry"
	"github.com/milepost/milepost/services/internal/processtest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// numbered is the ID of the nth event. Its distance is n miles, and its address is address(n).
func numbered(n int) string { return fmt.Sprintf("%s%012d", numberedPrefix, n) }

const numberedPrefix = "0193abcd-0000-7000-8000-"

func address(n int) event.Address { return event.Address(fmt.Sprintf("user%d@example.com", n)) }

// memory is a store in memory that has all numbered events and can be switched off.
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

func (m *memory) Distances(ctx context.Context, ids []string) (map[string]records.Distance, error) {
	if err := m.Ping(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	found := map[string]records.Distance{}
	for _, id := range ids {
		if r, ok := m.docs[id]; ok {
			found[id] = records.Distance{Miles: r.Miles, SubmittedAt: r.SubmittedAt}
		} else if n, ok := strings.CutPrefix(id, numberedPrefix); ok {
			miles, err := strconv.ParseFloat(n, 64)
			if err != nil {
				return nil, err
			}
			found[id] = records.Distance{Miles: miles}
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
	rdb    *redis.Client
	broker *stage.Broker
	store  *memory
	path   string
	pub    *stage.Publisher
}

func newRig(t testing.TB, o *redis.Options) *rig {
	t.Helper()
	g := &rig{t: t, redis: o, rdb: redis.NewClient(o), store: &memory{}, path: filepath.Join(t.TempDir(), "log")}
	t.Cleanup(func() { _ = g.rdb.Close() })
	g.broker = processtest.Broker(t, o)
	g.pub = g.broker.Publisher("test", event.UserEmail)
	t.Cleanup(func() {
		if err := g.pub.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// start runs the stage until stop is called or the test ends. The admin tells its readiness.
func (g *rig) start() (a *telemetry.Admin, stop func()) {
	g.t.Helper()
	d := Deps{
		Broker: g.broker, Store: g.store, Office: "Velocity", Settings: Settings{SentEmails: g.path},
		Tuning: config.Tuning{MaxTries: 50, Adopt: true}, Log: quiet, Admin: telemetry.NewAdmin(),
	}
	return d.Admin, processtest.Run(g.t, func(ctx context.Context) error { return Run(ctx, d) })
}

// publish publishes the events [from, to).
func (g *rig) publish(from, to int) {
	g.t.Helper()
	var wg sync.WaitGroup
	const publishers = 200
	for first := range min(publishers, to-from) {
		wg.Go(func() {
			for n := from + first; n < to; n += publishers {
				g.submit(stage.Submission{ID: numbered(n), Body: address(n)})
			}
		})
	}
	wg.Wait()
}

func (g *rig) submit(s stage.Submission) {
	if _, err := g.pub.Publish(context.Background(), s); err != nil {
		g.t.Errorf("publish %+v: %v", s, err)
	}
}

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

// wantLines waits for the lines of the events [from, to) and checks that there are no others.
func (g *rig) wantLines(from, to int) {
	g.t.Helper()
	stagetest.Eventually(g.t, fmt.Sprint(to-from, " lines"), func() bool { return len(g.lines()) >= to-from })
	got := g.lines()
	for n := from; n < to; n++ {
		if l := lineOf(address(n), pythonFloat(float64(n))); got[l] != 1 {
			g.t.Errorf("%d lines %q, want 1", got[l], l)
		}
	}
	if len(got) != to-from {
		g.t.Errorf("%d different lines, want %d", len(got), to-from)
	}
}

// settled waits until no entry of the stage's input is pending or undelivered, and returns its dead
// letters.
func (g *rig) settled() []inspect.DeadLetter {
	g.t.Helper()
	p := inspect.New(g.broker)
	stagetest.Eventually(g.t, "everything is settled", func() bool {
		s, err := p.Status(context.Background(), event.UserEmail)
		stagetest.OK(g.t, err)
		return len(s.Groups) == 1 && s.Groups[0].Backlog == 0
	})
	dead, err := p.DeadLetters(context.Background(), event.UserEmail, "", 100)
	stagetest.OK(g.t, err)
	return dead
}

// news counts the messages on email:sent by event ID.
func (g *rig) news() map[string]int {
	g.t.Helper()
	entries, err := g.rdb.XRange(context.Background(), event.EmailSent, "-", "+").Result()
	stagetest.OK(g.t, err)
	seen := map[string]int{}
	for _, e := range entries {
		id, _ := e.Values["id"].(string)
		seen[id]++
	}
	return seen
}

// wantNews checks that there is one message of each event [0, n) and of others, and no more.
func (g *rig) wantNews(n int, others ...string) {
	g.t.Helper()
	got := g.news()
	ids := others
	for i := range n {
		ids = append(ids, numbered(i))
	}
	for _, id := range ids {
		if got[id] != 1 {
			g.t.Errorf("%d times news of event %s, want 1", got[id], id)
		}
	}
	if len(got) != len(ids) {
		g.t.Errorf("news of %d events, want %d", len(got), len(ids))
	}
}

// waitReady waits until /readyz says text and is ready, or not.
func waitReady(t *testing.T, a *telemetry.Admin, ready bool, text string) {
	t.Helper()
	stagetest.Eventually(t, fmt.Sprintf("ready: %v, and /readyz says %q", ready, text), func() bool {
		report, ok := a.Ready()
		return ok == ready && strings.Contains(report, text)
	})
}
