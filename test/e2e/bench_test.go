//go:build linux

package e2e

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// TestBench runs test/bench with -short with the programs, and looks at what it reports: that it is
// complete and that its figures can be true. How fast anything is depends on the machine and is not
// looked at.
func TestBench(t *testing.T) {
	t.Parallel()
	stagetest.Real(t) // skips or fails where there is no redis-server, as everything here does
	bin := builds.programs(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	command := func(args ...string) string {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = root
		cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MONGO_") }), "CGO_ENABLED=0")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
		return string(out)
	}
	command("build", "-trimpath", "-o", bin, "./test/bench/bare-echo")
	out := command("test", "./test/bench", "-trimpath", "-run", "^$", "-bench", "Pipeline", "-benchtime", "1x", "-short", "-args", "-bin", bin)
	all := map[string]map[string]float64{} // by benchmark and unit
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		if !strings.HasPrefix(line, "BenchmarkPipeline/") || len(words) < 4 {
			continue
		}
		_, name, _ := strings.Cut(strings.TrimSuffix(words[0], "-"+strconv.Itoa(runtime.GOMAXPROCS(0))), "fsync=")
		all[name] = map[string]float64{}
		for pair := range slices.Chunk(words[2:], 2) {
			v, err := strconv.ParseFloat(pair[0], 64)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			all[name][pair[1]] = v
		}
	}
	positive := func(name string, units ...string) {
		t.Helper()
		for _, unit := range units {
			if all[name][unit] <= 0 {
				t.Errorf("%s: %s is %v; all: %v", name, unit, all[name][unit], all[name])
			}
		}
	}
	for _, fsync := range []string{"off/", "always/"} {
		for name, more := range map[string][]string{
			"bare": nil, "edge-json": {"of-bare"}, "edge-form": {"of-edge-json"}, "drain": nil, "form-100": {"line-p50-ms"}, "json-100": {"line-p50-ms"},
			"json": {"line-p50-ms", "of-edge-json"}, "form": {"line-p50-ms", "of-json"}, "form-32": {"line-p50-ms"},
		} {
			at := fsync + name
			positive(at, append(more, "events/s", "redis-trips/event", "client-MB", "redis-MB", "web-api-MB", "bare-echo-MB", "standalone-MB")...)
			if all[at]["line-p99-ms"] < all[at]["line-p50-ms"] {
				t.Errorf("%s: times %v", at, all[at])
			}
			if name == "bare" || strings.HasPrefix(name, "edge") {
				continue
			}
			positive(at, "cpu-s/1000", "distance-MB", "db-MB", "email-MB")
			// In short runs entries of one window are counted in another; on their way
			// they are all added to three streams, acknowledged by three stages and
			// published.
			if n := all[at]["redis-commands/event"]; n < 6 || n > 200 {
				t.Errorf("%s: %v Redis commands an event", at, n)
			}
		}
		if _, ok := all[fsync+"idle"]["redis-trips/s"]; !ok {
			t.Errorf("appendfsync %s idle is not measured", fsync)
		}
		if l := all[fsync+"ledger"]; l["accepted"] == 0 || l["accepted"] != l["lines"] || l["doubled"] != 0 {
			t.Errorf("appendfsync %s ledger %v", fsync, l)
		}
	}
}
