//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMedians(t *testing.T) {
	line := func(p50 float64) *Times { return &Times{p50, 2 * p50, 3 * p50} }
	round := func(edge, bare, pipeline, p50 float64) Round {
		return Round{
			Edge: Stretch{Rate: edge, Cost: Cost{CPU: map[string]float64{"web-api": 4, "redis": 0.55}}}, Bare: Stretch{Events: 1, Rate: bare}, Light: Stretch{Line: line(1)},
			Pipeline: Stretch{Rate: pipeline, Line: line(p50), Cost: Cost{
				CPU: map[string]float64{"web-api": 0.04, "distance": 0.02, "db": 0.03, "email": 0.01, "redis": 9}, Commands: map[string]float64{"xadd": 4, "xack": 3},
			}},
		}
	}
	m := medians([]Round{round(100, 100, 80, 5), round(300, 200, 60, 1), round(200, 400, 150, 9)})
	if m.EdgeRate != 200 || m.BareRate != 200 || *m.EdgeToBare != 1 || m.PipelineRate != 80 || m.ToEdge != 0.75 || m.Line != (Times{5, 10, 15}) {
		t.Errorf("medians: %+v", m)
	}
	if m.ToEdgeCPU < 0.499 || m.ToEdgeCPU > 0.501 {
		t.Errorf("by CPU %v, want 0.5: 4.55 s against 9.1 s", m.ToEdgeCPU)
	}
	if m.ServicesCPU < 0.0999 || m.ServicesCPU > 0.1001 || m.Commands != 7 {
		t.Errorf("%v s of CPU for four services, %v commands; want 0.1 without Redis, and 7", m.ServicesCPU, m.Commands)
	}
	without := round(1, 1, 1, 1)
	without.Bare = Stretch{}
	if m := medians([]Round{without}); m.EdgeToBare != nil {
		t.Errorf("a ratio to nothing: %v", *m.EdgeToBare)
	}
}

func TestTimes(t *testing.T) {
	var sorted []time.Duration
	for i := range 200 {
		sorted = append(sorted, time.Duration(i+1)*time.Millisecond)
	}
	if got := *timesOf(sorted); got != (Times{101, 199, 200}) {
		t.Errorf("timesOf(1…200 ms) = %+v", got)
	}
	if timesOf(nil) != nil || backlogOf([]int{1, 2}) != nil {
		t.Error("figures of nothing")
	}
	if got := *backlogOf([]int{1, 3, 9, 9, 4, 6}); got != (Backlog{2, 5, 9}) {
		t.Errorf("backlogOf = %+v", got)
	}
}

const goTestOutput = `goos: linux
pkg: github.com/milepost/milepost/pkg/stage
BenchmarkHop/memory-2 	       1	    141893 bare-events/s	         0.8100 ratio	    114627 stage-events/s
BenchmarkBacklog/events=1000-2      	       1	     90464 events/s	         4.445 heap-MB
BenchmarkBacklog/events=1000000-2   	       1	     74292 events/s	         7.078 heap-MB
BenchmarkReplicas/forwarding/replicas=1-2  	       1	     80000 events/s
BenchmarkReplicas/forwarding/replicas=2-2  	       1	     120000 events/s
BenchmarkReplicas/waiting/replicas=1-2  	       1	     2700 events/s
BenchmarkReplicas/waiting/replicas=2-2  	       1	     5400 events/s
BenchmarkPublish/clients=16-2 	  100	     12345 ns/op	 50000 events/s
    x_test.go:1: BenchmarkX said something
PASS
ok  	github.com/milepost/milepost/pkg/stage	9.5s
`

func TestParse(t *testing.T) {
	told := 0
	found, other := parse(strings.NewReader(goTestOutput), func(string) { told++ })
	if len(found) != 8 || told != 8 || !strings.Contains(other, "said something") || !strings.Contains(other, "PASS") {
		t.Fatalf("found %+v, told %d, other %q", found, told, other)
	}
	if b := found[0]; b.Package != "pkg/stage" || b.Name != "Hop/memory" || b.Metrics["ratio"] != 0.81 || b.String() != "141893 bare-events/s, 0.81 ratio, 114627 stage-events/s" {
		t.Errorf("first: %+v, %s", b, b)
	}
}

// What ran before something failed is returned with the error.
func TestRun(t *testing.T) {
	for script, fails := range map[string]string{
		"cat " + file(t, goTestOutput):              "",
		"cat " + file(t, goTestOutput) + "; exit 1": "x_test.go:1: BenchmarkX said something",
		"echo ok": "no benchmark ran",
	} {
		var progress bytes.Buffer
		found, err := goTest(exec.Command("sh", "-c", script), t.TempDir(), &progress)
		if fails == "" && err != nil || fails != "" && (err == nil || !strings.Contains(err.Error(), fails)) {
			t.Errorf("%s: %v; want %q", script, err, fails)
		}
		if want := 8; script != "echo ok" && (len(found) != want || !strings.Contains(progress.String(), "BenchmarkPublish/clients=16")) {
			t.Errorf("%s: %d benchmarks, want %d; told %s", script, len(found), want, &progress)
		}
	}
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A report is written for people and saved.
func TestSave(t *testing.T) {
	r := NewReport(Options{RedisServer: "redis-server"})
	r.Benchmarks, _ = parse(strings.NewReader(goTestOutput), func(string) {})
	var text bytes.Buffer
	if err := r.Write(&text); err != nil || !strings.Contains(text.String(), "pkg/stage  Hop/memory") {
		t.Errorf("Write: %v\n%s", err, &text)
	}
	dir := filepath.Join(t.TempDir(), "new", "folder")
	if err := r.Save(dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "report.json"))
	var back Report
	if err != nil || json.Unmarshal(b, &back) != nil || len(back.Benchmarks) != 8 || back.Machine.Cores < 1 {
		t.Errorf("report.json: %v\n%s", err, b)
	}
}
