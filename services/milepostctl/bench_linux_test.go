package milepostctl

import (
	"strings"
	"testing"
)

// What cannot be measured is said before anything starts. That measuring works is tested with the programs, in
// test/e2e.
func TestBenchRefuses(t *testing.T) {
	for _, tc := range []struct {
		code int
		says string
		args []string
	}{
		{ExitUsage, `"sometimes"`, []string{"--fsync", "sometimes"}},
		{ExitUsage, "rounds", []string{"--rounds", "0"}},
		{ExitUsage, "connections", []string{"--connections", "100000"}},
		{ExitUsage, "time", []string{"--sustain", "-1s"}},
		{ExitError, "make build", []string{"--bin", t.TempDir()}},
	} {
		if s := runTool(t, nil, "", append([]string{"bench", "pipeline"}, tc.args...)...); s.code != tc.code || !strings.Contains(s.err, tc.says) || s.out != "" {
			t.Errorf("bench pipeline %q: %s; want exit status %d and %q", tc.args, s, tc.code, tc.says)
		}
	}
	if s := runTool(t, nil, "", "bench", "runtime", "--source", t.TempDir()); s.code != ExitError || !strings.Contains(s.err, "go test") {
		t.Errorf("bench runtime without source: %s", s)
	}
}
