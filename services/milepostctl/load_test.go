package milepostctl

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

func TestLoad(t *testing.T) {
	var calls atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPut || string(body) != "x" || r.Header.Get("X-Y") != "z" {
			t.Errorf("%s %q %v", r.Method, body, r.Header)
		}
		if calls.Add(1)%4 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	args := []string{"load", server.URL, "-n", "100", "-c", "5", "-X", "PUT", "-d", "x", "-H", "X-Y: z"}
	out := must(t, nil, args...)
	if !strings.Contains(out, "requests    100\n") || !strings.Contains(out, "status      200 × 75, 503 × 25\n") {
		t.Errorf("load: %s", out)
	}
	var s summary
	if err := json.Unmarshal([]byte(must(t, nil, append(args, "-o", "json")...)), &s); err != nil {
		t.Fatal(err)
	}
	l := s.Latency
	if s.Requests != 100 || s.Status["200"] != 75 || s.Total <= 0 || !slices.IsSorted([]float64{0, l.P50, l.P90, l.P99, l.Max}) || l.Mean > l.Max {
		t.Errorf("load -o json: %+v", s)
	}
	server.Close()
	if out := must(t, nil, "load", server.URL, "-n", "3"); !strings.Contains(out, "status      dial: connect: connection refused × 3") {
		t.Errorf("load of nobody: %s", out)
	}
	for _, args := range [][]string{
		{"load"}, {"load", "nowhere"}, {"load", server.URL, "-n", "0"}, {"load", server.URL, "-c", "0"}, {"load", server.URL, "--rate", "-1"},
		{"load", server.URL, "-H", "x"}, {"load", "weather", "--cities", ""}, {"load", "fanout", "--calls", "11"}, {"load", "fanout", "-n", "0"},
		{"load", "pipeline", "--url", "x"}, {"load", "pipeline", "--patience", "0s"},
	} {
		if s := runTool(t, nil, "", args...); s.code != ExitUsage {
			t.Errorf("milepostctl %q: %s; want exit status %d", args, s, ExitUsage)
		}
	}
}

// A rate begins requests on time, however long earlier ones take, and counts their time from then.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := load{requests: 10, concurrency: 1, rate: 10}
		m := l.run(t.Context(), func(context.Context, int) string {
			time.Sleep(200 * time.Millisecond) // twice what there is room for
			return "ok"
		}, func() {})
		if m.total != 2*time.Second || m.times[0] != 200*time.Millisecond || m.times[9] != 1100*time.Millisecond || m.count["ok"] != 10 {
			t.Errorf("10 requests of 200 ms, one after the other, begun at 10 a second: %+v; want 2 s, the last one late by 0.9 s", m)
		}
		l = load{duration: time.Second, concurrency: 3}
		m = l.run(t.Context(), func(context.Context, int) string { time.Sleep(300 * time.Millisecond); return "ok" }, func() {})
		if m.total != 1200*time.Millisecond || len(m.times) != 12 {
			t.Errorf("3 at once for 1 s: %d in %s; want 12 in 1.2 s", len(m.times), m.total)
		}
	})
}

func TestPercentile(t *testing.T) {
	times := make([]time.Duration, 200)
	for i := range times {
		times[i] = time.Duration(i + 1)
	}
	for percent, want := range map[float64]time.Duration{0: 1, 50: 100, 90: 180, 99: 198, 100: 200} {
		if got := percentile(times, percent); got != want {
			t.Errorf("percentile(1…200, %v) = %d, want %d", percent, got, want)
		}
	}
	if percentile(nil, 50) != 0 || mean(nil) != 0 || mean(times) != 100 {
		t.Error("of no times, or the mean of 1…200")
	}
}

func TestLoadWeather(t *testing.T) {
	var asked atomic.Pointer[string]
	var calls atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked.Store(&r.URL.Path)
		calls.Add(1)
	}))
	defer server.Close()
	out := must(t, nil, "load", "weather", "--url", server.URL, "--cities", "moskva,são paulo", "--requests", "18")
	if calls.Load() != 18 || *asked.Load() != "/api/weather/são paulo" || !strings.Contains(out, "Total time: ") || !strings.Contains(out, "Mean time for 1 request: ") {
		t.Errorf("load weather after %d calls, the last of %s:\n%s", calls.Load(), *asked.Load(), out)
	}
}

func TestLoadFanout(t *testing.T) {
	var rows []fanned
	for line := range strings.Lines(must(t, nil, "load", "fanout", "--calls", "0.02,0.04", "--work", "50ms", "-n", "5,10", "-o", "json")) {
		var r fanned
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r)
	}
	if len(rows) != 5 {
		t.Fatalf("%+v; want 5 measurements", rows)
	}
	for i, least := range []float64{0.06, 0.04, 0.05, 0.04, 0.04} { // how fast it is depends on the machine; nothing is faster than this
		if rows[i].Seconds < least {
			t.Errorf("%+v took less than %v s", rows[i], least)
		}
	}
	if rows[3].Requests != 5 || rows[4].Requests != 10 {
		t.Errorf("%+v; want 5 and 10 requests at the same time", rows[3:])
	}
}

// A pipeline in one place that loses every tenth submission and doubles another tenth, in stream and log.
func TestLoadPipeline(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b, err := stage.Open(stage.Options{Redis: o})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		pub := b.Publisher("test", event.EmailSent)
		defer pub.Close()
		path := filepath.Join(t.TempDir(), "sent_emails")
		log, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		var n atomic.Int64
		faulty := true
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var s event.Submission
			if err := json.NewDecoder(r.Body).Decode(&s); err != nil || s.Validate() != nil {
				t.Errorf("submission %+v: %v", s, err)
			}
			i := n.Add(1)
			id := fmt.Sprintf("018f0000-0000-7000-8000-%012d", i)
			times := 1
			if faulty && i%10 == 0 {
				times = 0
			} else if faulty && i%10 == 1 {
				times = 2
			}
			for range times {
				fmt.Fprintf(log, "21:36:47,180 root INFO Email sent to: %s; Message: You are 1.0 miles from Velocity.\n", s.Email)
				if _, err := pub.Publish(context.Background(), stage.Submission{Body: event.Sent{ID: id, Email: s.Email, Miles: 1}}); err != nil {
					t.Error(err)
				}
			}
			w.WriteHeader(http.StatusCreated)
			fmt.Fprintf(w, `{"id":%q}`, id)
		}))
		defer server.Close()
		s := runTool(t, o, "", "load", "pipeline", "--url", server.URL, "-n", "100", "-c", "1", "--patience", "300ms", "--log", path)
		if s.code != ExitError || !strings.Contains(s.out, "emailed     90, lost 10, doubled 10\n") || !strings.Contains(s.out, "log         once × 80, more than once × 10\n") {
			t.Errorf("load pipeline of a bad one: %s", s)
		}
		faulty = false
		if out := must(t, o, "load", "pipeline", "--url", server.URL, "-n", "50"); !strings.Contains(out, "accepted    50\nemailed     50, lost 0, doubled 0\n") {
			t.Errorf("load pipeline of a good one: %s", out)
		}
	})
}
