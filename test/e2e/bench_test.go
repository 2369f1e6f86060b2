//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// TestBench runs test/bench with -short with the programs and looks at the report: that it is
// complete and that its figures can be true. How fast anything is depends on the machine and is not
// looked at.
func TestBench(t *testing.T) {
	t.Parallel()
	stagetest.Real(t) // skips or fails where there is no redis-server, as everything here does
	bin := builds.programs(t, "")
	build := exec.Command("go", "build", "-trimpath", "-o", bin, "./test/bench", "./test/bench/bare-echo")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", build, err, out)
	}
	dir := filepath.Join(t.TempDir(), "report")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	// The store is that of standalone, which the tool has to say.
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "bench"), "-short", "-source", root, "-bin", bin, "-out", dir)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MONGO_") })
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	for _, said := range []string{"WHICH IS THE BOTTLENECK", "from POST to log line, JSON", "from POST to log line, form", "of the bare handler", "Redis appendfsync always"} {
		if !strings.Contains(string(out), said) {
			t.Errorf("%s does not say %q:\n%s", cmd, said, out)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r benchReport
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(r.Machine, "redis-server 7.") || !strings.Contains(r.Machine, " cores") || len(r.Pipeline) != 2 {
		t.Fatalf("machine %q, %d settings, want 2", r.Machine, len(r.Pipeline))
	}
	for _, s := range r.Pipeline {
		if len(s.Rounds) != 1 || s.Ledger["accepted"] == 0 || s.Ledger["accepted"] != s.Ledger["lines"] || s.Ledger["doubled"] != 0 {
			t.Errorf("appendfsync %s: %d rounds, ledger %v", s.Fsync, len(s.Rounds), s.Ledger)
		}
		m := s.Median
		for _, ratio := range []string{"edge_to_bare", "pipeline_to_edge", "form_edge_to_json", "form_to_json", "form_few_events_per_second", "cpu_seconds_per_1000_four_services"} {
			if m[ratio] <= 0 {
				t.Errorf("appendfsync %s: %s is %v", s.Fsync, ratio, m[ratio])
			}
		}
		// In short runs entries of one window are counted in another; on their way they are
		// all added to three streams, acknowledged by three stages and published.
		if n := m["redis_commands_per_event"]; n < 6 || n > 200 {
			t.Errorf("appendfsync %s: %v Redis commands an event", s.Fsync, n)
		}
		for _, name := range []string{"edge", "bare", "drain", "light", "pipeline", "form_edge", "form_light", "form_few", "form"} {
			var x benchStretch
			if err := json.Unmarshal(s.Rounds[0][name], &x); err != nil {
				t.Fatalf("appendfsync %s, %s: %v", s.Fsync, name, err)
			}
			if x.Events <= 0 || x.Seconds <= 0 || x.Rate <= 0 || x.RoundTrips <= 0 {
				t.Errorf("appendfsync %s, %s: %+v", s.Fsync, name, x)
			}
			running := []string{"client", "redis", "web-api", "bare-echo", "standalone"}
			if name != "edge" && name != "form_edge" && name != "bare" {
				running = append(running, "distance", "db", "email")
			}
			for _, p := range running {
				if _, ok := x.CPU[p]; !ok || x.Resident[p] < 1 || x.Peak[p] < x.Resident[p] {
					t.Errorf("appendfsync %s, %s: %s used %v s for 1,000 events, %v MB, at most %v", s.Fsync, name, p, x.CPU[p], x.Resident[p], x.Peak[p])
				}
			}
			if line := x.Line; (name == "light" || name == "pipeline" || strings.HasPrefix(name, "form") && name != "form_edge") && (line["p50"] <= 0 || line["p99"] < line["p50"] || line["max"] < line["p99"]) {
				t.Errorf("appendfsync %s, %s: times %v", s.Fsync, name, line)
			}
		}
	}
}

type benchReport struct {
	Machine  string
	Pipeline []struct {
		Fsync  string                       `json:"appendfsync"`
		Rounds []map[string]json.RawMessage // benchStretches by name, and figures
		Median map[string]float64
		Ledger map[string]int
	}
}

type benchStretch struct {
	Seconds    float64
	Events     int
	Rate       float64            `json:"events_per_second"`
	Line       map[string]float64 `json:"line_ms"`
	Resident   map[string]float64 `json:"resident_mb"`
	Peak       map[string]float64 `json:"resident_peak_mb"`
	CPU        map[string]float64 `json:"cpu_seconds_per_1000"`
	RoundTrips float64            `json:"redis_round_trips_per_event"`
}
