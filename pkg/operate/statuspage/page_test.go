package statuspage

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/operate"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
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
	h, err := Handler(l, "milepostctl", slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
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
	alive := func(why string) []inspect.ConsumerStatus {
		return []inspect.ConsumerStatus{{Name: "host-1-00000000", State: "alive", Why: why}}
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
					{Name: "distance", Rate: rate(12.5), Consumers: alive("")}, {Name: "weather", Optional: true, Rate: rate(0), Consumers: nil},
				}},
				{Channel: "calculated_distance", Kind: "stream", Adopted: true, Rate: rate(12.5), Due: 1, Groups: []inspect.GroupStatus{
					{Name: "db", Backlog: 12345, Pending: 1024, Oldest: at.Add(-125 * time.Second), OldestEvent: "01a1fcf4-508b-795f-b2e6-0c1eaed65fcd", Consumers: alive("paused: mongo: ada@example.com <b>")},
				}},
				{Channel: "user:email", Kind: "stream", Adopted: true, Rate: rate(0), Groups: []inspect.GroupStatus{{Name: "email", Backlog: 1, Oldest: at.Add(-2 * time.Minute), OldestEvent: "eve@example.com", Consumers: alive("")}}},
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
		if err := os.WriteFile(path, w.Body.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
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

// TestAway: while Redis is away the page says so, and does not show what was seen before as if it were now.
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
	for _, name := range []string{"status.css", "status.js", "icon.svg"} {
		_, rest, _ := strings.Cut(page, `"/status/`)
		version, _, _ := strings.Cut(rest, "/")
		if w := get(h, "/status/"+version+"/"+name); w.Code != http.StatusOK || w.Body.Len() == 0 || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("GET %s: %d, %d bytes", name, w.Code, w.Body.Len())
		}
	}
	if w := get(h, "/status/other/page.css"); w.Code != http.StatusNotFound {
		t.Errorf("GET of another file: %d", w.Code)
	}
}

// TestDrawAnything lays out pipelines of any shape, with ways back and channels without readers or publishers: nothing
// overlaps, nothing leaves the picture, and every stage and channel is there.
func TestDrawAnything(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		var s inspect.Seen
		n := 1 + r.IntN(12)
		channel := func() string { return fmt.Sprintf("channel-%d", r.IntN(n+2)) }
		named := map[string]bool{}
		for i := range n {
			info := inspect.StageInfo{Name: fmt.Sprintf("stage-%d", i)}
			if r.IntN(6) > 0 {
				info.In = channel()
				named[info.In] = true
			}
			for range r.IntN(4) {
				out := channel()
				if out != info.In {
					info.Out = append(info.Out, stage.Output{Channel: out})
					named[out] = true
				}
			}
			s.Stages = append(s.Stages, info)
		}
		for c := range named {
			s.Channels = append(s.Channels, inspect.ChannelStatus{Channel: c, Kind: "stream"})
		}
		for _, o := range []orientation{wide, tall} {
			p := draw(s, operate.Rows(s), o)
			type rect struct {
				name       string
				x, y, w, h float64
			}
			var all []rect
			for _, b := range p.Boxes {
				all = append(all, rect{b.Title, b.X, b.Y, b.Width, b.Height})
			}
			for _, c := range p.Pills {
				all = append(all, rect{c.Title, c.X, c.Y, c.Width, c.Height})
			}
			if len(all) != len(s.Stages)+len(s.Channels) {
				t.Fatalf("seed %d: %d of %d stages and channels are drawn", seed, len(all), len(s.Stages)+len(s.Channels))
			}
			for i, a := range all {
				if a.x < 0 || a.y < 0 || a.x+a.w > p.Width || a.y+a.h > p.Height {
					t.Errorf("seed %d: %+v is outside of a picture of %v by %v", seed, a, p.Width, p.Height)
				}
				for _, b := range all[:i] {
					if a.x < b.x+b.w && b.x < a.x+a.w && a.y < b.y+b.h && b.y < a.y+a.h {
						t.Errorf("seed %d: %+v and %+v overlap", seed, a, b)
					}
				}
			}
		}
	}
}
