package milepostctl

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestLoad(t *testing.T) {
	var calls atomic.Int64
	var seen sync.Map // bodies
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPut || r.URL.Query().Get("q") != string(body) || r.Header.Get("X-Y") != "z" {
			t.Errorf("%s %s %q %v", r.Method, r.URL, body, r.Header)
		}
		seen.Store(string(body), true)
		if calls.Add(1)%4 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	args := []string{"load", server.URL + "/?q=x{n}", "-n", "100", "-c", "5", "-X", "PUT", "-d", "x{n}", "-H", "X-Y: z"}
	out := must(t, nil, args...)
	if !strings.Contains(out, "requests    100\n") || !strings.Contains(out, "status      200 × 75, 503 × 25\n") {
		t.Errorf("load: %s", out)
	}
	for n := range 100 {
		if _, ok := seen.Load(fmt.Sprintf("x%d", n)); !ok {
			t.Errorf("no request has the number %d", n)
		}
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
	if out := must(t, nil, "load", server.URL, "-n", "3"); !strings.Contains(out, "status      connection refused × 3") {
		t.Errorf("load without a server: %s", out)
	}
	for _, args := range [][]string{
		{"load"}, {"load", "nowhere"}, {"load", server.URL, "-n", "0"}, {"load", server.URL, "-c", "0"}, {"load", server.URL, "--rate", "-1"},
		{"load", server.URL, "-H", "x"}, {"load", server.URL, "--rate", "1", "-c", "1"},
	} {
		if s := runTool(t, nil, "", args...); s.code != ExitUsage {
			t.Errorf("milepostctl %q: %s; want exit status %d", args, s, ExitUsage)
		}
	}
}

// A rate sends requests on time, however long earlier ones take; a slow server ends as a timeout.
func TestLoadRate(t *testing.T) {
	release := make(chan struct{})
	var calls atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if calls.Add(1) == 30 {
			close(release)
		}
		<-release // all are under way at once
	}))
	defer server.Close()
	var s summary
	if err := json.Unmarshal([]byte(must(t, nil, "load", server.URL, "-n", "30", "--rate", "100", "-o", "json")), &s); err != nil {
		t.Fatal(err)
	}
	if s.Requests != 30 || s.Status["200"] != 30 || s.Total < 0.28 {
		t.Errorf("30 requests at 100 a second: %+v; want 0.29 s", s)
	}

	stuck := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stuck }))
	defer slow.Close()
	defer close(stuck)
	if out := must(t, nil, "load", slow.URL, "-n", "2", "--timeout", (50 * time.Millisecond).String()); !strings.Contains(out, "status      timeout × 2\n") {
		t.Errorf("load of a server that does not answer: %s", out)
	}
	// A request that is due when the time ends is still sent.
	if out := must(t, nil, "load", slow.URL, "--duration", "20ms", "--timeout", "50ms", "-c", "3"); !strings.Contains(out, "requests    3\n") && !strings.Contains(out, "requests    4\n") {
		t.Errorf("load for a time: %s", out)
	}
}
