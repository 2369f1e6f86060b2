package statuspage

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/operate"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

var update = flag.Bool("update", false, "write the golden file anew")

// look answers with what a test has set.
type look struct {
	seen inspect.Seen
	err  error
}

func (l *look) Observe(context.Context) (inspect.Seen, error) { return l.seen, l.err }

func open(t *testing.T, l *look) http.Handler {
	t.Helper()
	h, err := Handler(l, nil, "milepostctl", slog.New(slog.NewTextHandler(t.Output(), nil)))
	stagetest.OK(t, err)
	return h
}

func get(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func rate(r float64) *float64 { return &r }

// troubled is a pipeline in which much is wrong.
func troubled() inspect.Seen {
	at := time.UnixMilli(1_795_245_232_000)
	alive := func(obstacle, why string) []inspect.ConsumerStatus {
		return []inspect.ConsumerStatus{{Name: "host-1-00000000", State: "alive", Obstacle: obstacle, Why: why}}
	}
	return inspect.Seen{
		Overview: inspect.Overview{At: at,
			Stages: []inspect.StageInfo{
				{Name: "web-api", Out: []stage.Output{{Channel: "raw_input"}}},
				{Name: "distance", In: "raw_input", Out: []stage.Output{{Channel: "calculated_distance"}}},
				{Name: "weather", In: "raw_input", Out: []stage.Output{{Channel: "weather_report", Unread: true}}, Optional: true},
				{Name: "db", In: "calculated_distance", Out: []stage.Output{{Channel: "user:email"}}},
				{Name: "email", In: "user:email", Out: []stage.Output{{Channel: "email:sent", Unread: true}}},
			},
			Channels: []inspect.ChannelStatus{
				{Channel: "raw_input", Kind: "stream", Adopted: true, Rate: rate(12.5), Dead: 101, Groups: []inspect.GroupStatus{
					{Name: "distance", Rate: rate(12.5), Consumers: alive("", "")}, {Name: "weather", Optional: true, Rate: rate(0), Consumers: nil},
				}},
				{Channel: "calculated_distance", Kind: "stream", Adopted: true, Rate: rate(12.5), Due: 1, Groups: []inspect.GroupStatus{
					{Name: "db", Backlog: 12345, Pending: 1024, Oldest: at.Add(-125 * time.Second), OldestEvent: "01a1fcf4-508b-795f-b2e6-0c1eaed65fcd", Consumers: alive("paused", "mongo: ada@example.com <b>")},
				}},
				{Channel: "user:email", Kind: "stream", Adopted: true, Rate: rate(0), Groups: []inspect.GroupStatus{{Name: "email", Backlog: 1, Oldest: at.Add(-2 * time.Minute), OldestEvent: "eve@example.com", Consumers: alive("", "")}}},
				{Channel: "weather_report", Kind: "stream"}, {Channel: "email:sent", Kind: "none"},
			},
		},
		Retries: []inspect.Retry{{Channel: "calculated_distance", Group: "db", ID: "01a1fcf4-5063-706e-99de-fc2648e19ab0", Tries: 3, Error: `duplicate "ada@example.com"`, Due: at.Add(5 * time.Second)}},
		Dead: []inspect.DeadLetter{{Channel: "raw_input", Entry: "1795245232268-0", Group: "distance", ID: "01a1fcf4-508b-795f-b2e6-0c1eaed65fcd",
			Error: `latitude "91" is not in [-90, 90]; <script>alert(1)</script>`, Tries: 1, Dead: at.Add(-time.Hour)}},
	}
}

// TestPage compares the page with its golden file, which a person has looked at.
func TestPage(t *testing.T) {
	w := get(open(t, &look{seen: troubled()}), "/status")
	if w.Code != http.StatusOK {
		t.Fatalf("GET /status: %d %s", w.Code, w.Body)
	}
	const path = "testdata/troubled.html"
	if *update {
		stagetest.OK(t, os.WriteFile(path, w.Body.Bytes(), 0o644))
	}
	want, err := os.ReadFile(path)
	if err != nil || w.Body.String() != string(want) {
		t.Errorf("the page is not that of %s (%v):\n%s", path, err, w.Body)
	}
	for _, secret := range []string{"ada@", "eve@", "<script>alert"} {
		if strings.Contains(w.Body.String(), secret) {
			t.Errorf("the page holds %q", secret)
		}
	}
	policy := w.Header().Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, part) || strings.Contains(policy, "unsafe") {
			t.Errorf("Content-Security-Policy: %q", policy)
		}
	}
}

func TestJSON(t *testing.T) {
	w := get(open(t, &look{seen: troubled()}), "/status.json")
	var got struct {
		At       time.Time
		Stages   []operate.Row
		Problems []operate.Problem
		Retries  []inspect.Retry
		Dead     []letter
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatalf("GET /status.json: %v in %s", err, w.Body)
	}
	if len(got.Stages) != 5-1 || got.Stages[2].State != operate.Paused || len(got.Retries) != 1 || len(got.Dead) != 1 ||
		got.Dead[0].Command != "milepostctl dead replay raw_input 1795245232268-0 --yes" || len(got.Problems) != 5 {
		t.Errorf("GET /status.json: %s", w.Body)
	}
	if strings.Contains(w.Body.String(), "@example") {
		t.Errorf("the JSON shows an address: %s", w.Body)
	}
}

// TestAway: while Redis is away the page says so, and does not show what was seen before as if it
// were now.
func TestAway(t *testing.T) {
	l := &look{seen: troubled()}
	h := open(t, l)
	get(h, "/status")
	l.err = errors.New("redis is away: connection refused")
	w := get(h, "/status")
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "redis is away: connection refused") || strings.Contains(w.Body.String(), "calculated_distance") {
		t.Errorf("GET /status without Redis: %d %s", w.Code, w.Body)
	}
	if w := get(h, "/status.json"); w.Code != http.StatusServiceUnavailable || !json.Valid(w.Body.Bytes()) {
		t.Errorf("GET /status.json without Redis: %d %s", w.Code, w.Body)
	}
	l.err = nil
	if w := get(h, "/status"); w.Code != http.StatusOK {
		t.Errorf("GET /status when Redis is back: %d", w.Code)
	}
	l.seen = inspect.Seen{Overview: inspect.Overview{At: time.UnixMilli(1)}}
	if w := get(h, "/status"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "No stage has ever run here") {
		t.Errorf("GET /status of an empty Redis: %d %s", w.Code, w.Body)
	}
}

func TestRoutes(t *testing.T) {
	h := open(t, &look{seen: troubled()})
	if w := get(h, "/"); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/status" {
		t.Errorf("GET /: %d to %q", w.Code, w.Header().Get("Location"))
	}
	page := get(h, "/status").Body.String()
	for name, kind := range map[string]string{"status.css": "text/css", "status.js": "text/javascript", "icon.svg": "image/svg+xml"} {
		w := get(h, "/status/assets/"+name)
		if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), kind) || !strings.Contains(page, `"/status/assets/`+name+`"`) {
			t.Errorf("GET %s: %d, %q; want a %s that the page names", name, w.Code, w.Header().Get("Content-Type"), kind)
		}
	}
	for _, path := range []string{"/status/assets/other.css", "/status/status.html"} {
		if w := get(h, path); w.Code != http.StatusNotFound {
			t.Errorf("GET %s: %d", path, w.Code)
		}
	}
}

// deeds is an actor that notes what it is asked to do.
type deeds struct {
	done []string
	n    int
	err  error
}

func (d *deeds) note(what, channel string, entries []string) (int, error) {
	d.done = append(d.done, what+" "+channel+" "+strings.Join(entries, ","))
	return d.n, d.err
}

func (d *deeds) Replay(_ context.Context, channel string, entries ...string) (int, error) {
	return d.note("replay", channel, entries)
}

func (d *deeds) Drop(_ context.Context, channel string, entries ...string) (int, error) {
	return d.note("drop", channel, entries)
}

// TestActions: a dead letter is replayed or dropped only where that is switched on, after a
// confirmation, and never by a page of another site.
func TestActions(t *testing.T) {
	const letter = "channel=raw_input&entry=1795245232268-0"
	for name, tc := range map[string]struct {
		method, path, fields, origin string
		off                          bool
		n                            int
		err                          error
		status                       int
		says, does                   string
	}{
		"off":          {method: "POST", path: "/status/replay", fields: letter, off: true, status: 404},
		"asks":         {method: "GET", path: "/status/replay?" + letter, status: 200, says: "Replay this event?"},
		"asks to drop": {method: "GET", path: "/status/drop?" + letter, status: 200, says: "Drop this event for good?"},
		"replays":      {method: "POST", path: "/status/replay", fields: letter, origin: "http://status.example", n: 1, status: 303, does: "replay raw_input 1795245232268-0"},
		"drops":        {method: "POST", path: "/status/drop", fields: letter, n: 1, status: 303, does: "drop raw_input 1795245232268-0"},
		"another site": {method: "POST", path: "/status/drop", fields: letter, origin: "http://evil.example", n: 1, status: 403},
		"no origin":    {method: "POST", path: "/status/drop", fields: letter, origin: "null", n: 1, status: 403},
		"gone":         {method: "POST", path: "/status/drop", fields: letter, status: 409, says: "was not there any more", does: "drop raw_input 1795245232268-0"},
		"away":         {method: "POST", path: "/status/drop", fields: letter, err: errors.New("redis: ada@example.com"), status: 503, says: "redis: …@…", does: "drop raw_input 1795245232268-0"},
		"unknown":      {method: "POST", path: "/status/drop", fields: "channel=raw_input&entry=1-1", n: 1, status: 404, says: "not there any more"},
		"other action": {method: "POST", path: "/status/purge", fields: letter, n: 1, status: 404},
	} {
		t.Run(name, func(t *testing.T) {
			d := &deeds{n: tc.n, err: tc.err}
			var act actor = d
			if tc.off {
				act = nil
			}
			h, err := Handler(&look{seen: troubled()}, act, "milepostctl", slog.New(slog.NewTextHandler(t.Output(), nil)))
			stagetest.OK(t, err)
			r := httptest.NewRequest(tc.method, "http://status.example"+tc.path, strings.NewReader(tc.fields))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			if tc.origin != "" {
				r.Header.Set("Origin", tc.origin)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if got := strings.Join(d.done, "; "); w.Code != tc.status || !strings.Contains(w.Body.String(), tc.says) || got != tc.does {
				t.Errorf("%s %s: %d, did %q; want %d, %q and %q in %s", tc.method, tc.path, w.Code, got, tc.status, tc.does, tc.says, w.Body)
			}
			if page := get(h, "/status").Body.String(); strings.Contains(page, "/status/drop?"+strings.ReplaceAll(letter, "&", "&amp;")) == tc.off {
				t.Errorf("switched off: %t; the page is %s", tc.off, page)
			}
		})
	}
}

// TestSparklines: the page shows how rate and backlog were while it was looked at, for two minutes.
func TestSparklines(t *testing.T) {
	l := &look{seen: troubled()}
	h := open(t, l)
	if page := get(h, "/status").Body.String(); strings.Contains(page, "<svg") {
		t.Errorf("a line of one moment: %s", page)
	}
	l.seen.At = l.seen.At.Add(time.Minute)
	l.seen.Channels[1].Groups[0].Backlog = 0
	page := get(h, "/status").Body.String()
	for _, want := range []string{`d="M60.0 1.5L119.0 22.5"`, `aria-label="the last two minutes, at most 12345"`, `aria-label="the last two minutes, at most 12/s"`} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s in %s", want, page)
		}
	}
	l.seen.At = l.seen.At.Add(time.Hour)
	if page := get(h, "/status").Body.String(); strings.Contains(page, "<svg") {
		t.Errorf("the line has moments of an hour ago: %s", page)
	}
}

// TestPictureOfAnything: pipelines of any shape, with circles and channels that have no reader or
// no publisher: the picture holds every stage and every channel once.
func TestPictureOfAnything(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		var s inspect.Seen
		n := 1 + r.IntN(12)
		name := func() string { return fmt.Sprintf("channel-%d", r.IntN(n+2)) }
		want := map[string]int{} // how often each is shown
		for i := range n {
			info := inspect.StageInfo{Name: fmt.Sprintf("stage-%d", i), Optional: r.IntN(3) == 0}
			if r.IntN(6) > 0 {
				info.In = name()
				want[info.In], want[info.Name] = 1, 1
			}
			for range r.IntN(4) {
				out := name()
				named := func(o stage.Output) bool { return o.Channel == out }
				if out == info.In || slices.ContainsFunc(info.Out, named) {
					continue
				}
				info.Out = append(info.Out, stage.Output{Channel: out})
				want[out] = 1
				if info.In == "" {
					want[info.Name]++ // a publisher is shown at each of its channels
				}
			}
			s.Stages = append(s.Stages, info)
		}
		for c := range want {
			if strings.HasPrefix(c, "channel") {
				s.Channels = append(s.Channels, inspect.ChannelStatus{Channel: c, Kind: "stream"})
			}
		}
		got := map[string]int{}
		var count func([]channel)
		count = func(channels []channel) {
			for _, c := range channels {
				if c.Elsewhere {
					continue
				}
				got[c.Name]++
				for _, p := range slices.Concat(c.Publishers, c.Also) {
					got[p]++
				}
				for _, r := range c.Readers {
					got[r.Stage]++
					count(r.Out)
				}
			}
		}
		if count(picture(s, operate.Rows(s))); !maps.Equal(got, want) {
			t.Errorf("seed %d: the picture of %+v holds %v; want %v", seed, s.Stages, got, want)
		}
	}
}
