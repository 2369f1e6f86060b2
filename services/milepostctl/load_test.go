package milepostctl

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"

	"github.com/milepost/milepost/pkg/stage/stagetest"
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
	if !regexp.MustCompile(`Requests +\[total, .*\] +100, `).MatchString(out) || !strings.Contains(out, "200:75  503:25") {
		t.Errorf("load: %s", out)
	}
	for n := range 100 {
		if _, ok := seen.Load(fmt.Sprintf("x%d", n)); !ok {
			t.Errorf("no request has the number %d", n)
		}
	}
	var m vegeta.Metrics
	stagetest.OK(t, json.Unmarshal([]byte(must(t, nil, append(args, "-o", "json")...)), &m))
	l := m.Latencies
	if m.Requests != 100 || m.StatusCodes["200"] != 75 || m.Duration <= 0 || !slices.IsSorted([]time.Duration{0, l.P50, l.P90, l.P99, l.Max}) || l.Mean > l.Max {
		t.Errorf("load -o json: %+v", m)
	}
	server.Close()
	if out := must(t, nil, "load", server.URL, "-n", "3"); !strings.Contains(out, "0:3") || !strings.Contains(out, "connection refused") {
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
	var m vegeta.Metrics
	stagetest.OK(t, json.Unmarshal([]byte(must(t, nil, "load", server.URL, "-n", "30", "--rate", "100", "-o", "json")), &m))
	if m.Requests != 30 || m.StatusCodes["200"] != 30 || m.Duration < 280*time.Millisecond {
		t.Errorf("30 requests at 100 a second: %+v; want 0.29 s", m)
	}

	stuck := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stuck }))
	defer slow.Close()
	defer close(stuck)
	if out := must(t, nil, "load", slow.URL, "-n", "2", "--timeout", (50 * time.Millisecond).String()); !strings.Contains(out, "0:2") || !strings.Contains(out, "Client.Timeout") {
		t.Errorf("load of a server that does not answer: %s", out)
	}
	// A request that is due when the time ends is still sent.
	if out := must(t, nil, "load", slow.URL, "--duration", "20ms", "--timeout", "50ms", "-c", "3"); !strings.Contains(out, "0:3") && !strings.Contains(out, "0:4") {
		t.Errorf("load for a time: %s", out)
	}
}
