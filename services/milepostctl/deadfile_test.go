package milepostctl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// on runs the tool on a terminal of width columns, with a variable set.
func on(t *testing.T, o *redis.Options, width int, variable string, args ...string) said {
	t.Helper()
	return runIn(t.Context(), IO{Screen: func() (int, int) { return width, 24 }, Getenv: func(name string) string {
		return map[string]string{"REDIS_URL": "redis://" + o.Addr, variable: "1"}[name]
	}}, args...)
}

// TestDeadFile exports dead letters, drops them, imports them twice, and replays them.
func TestDeadFile(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		stop := running(t, o, func(string) error { return stage.Permanent(errRefused) })
		ids := []string{strings.TrimSpace(must(t, o, "publish", event.RawInput, golden, "--track")), strings.TrimSpace(must(t, o, "publish", event.RawInput, "\xff", "--force"))}
		var file string
		stagetest.Eventually(t, "both are dead letters", func() bool {
			file = must(t, o, "dead", "export")
			return strings.Count(file, "\n") == 2
		})
		stop()
		if only := must(t, o, "dead", "export", event.RawInput, "--id", ids[1]); strings.Count(only, "\n") != 1 || !strings.Contains(only, ids[1]) {
			t.Errorf("dead export of one event: %q", only)
		}
		if s := runTool(t, o, "", "find", "--email", "ada@example.com"); s.code != ExitOK || !strings.Contains(s.out, ids[0]) || strings.Contains(s.out, ids[1]) {
			t.Errorf("find --email: %s; want the event %s alone", s, ids[0])
		}
		fits(t, o, ids[0])
		must(t, o, "dead", "drop", event.RawInput, "--all", "-y")
		const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		file = strings.Replace(file, `"track":true`, `"track":true,"traceparent":"`+trace+`"`, 1)
		for _, want := range []string{"imported 2 dead letters; 0 were there already\n", "imported 0 dead letters; 2 were there already\n"} {
			if s := piped(t, o, file, "dead", "import"); s.code != ExitOK || s.out != want {
				t.Errorf("dead import: %s; want %q", s, want)
			}
		}
		again := must(t, o, "dead", "export")
		for _, part := range []string{ids[0], ids[1], `"payload_base64":"/w=="`, `"group":"distance"`, "refused"} {
			if !strings.Contains(again, part) {
				t.Errorf("export after import has no %s:\n%s", part, again)
			}
		}
		for _, bad := range []string{"{}\n", "no JSON", `{"channel":"raw_inptu","group":"g","id":"i"}`} {
			if s := piped(t, o, bad, "dead", "import"); s.code == ExitOK || s.out != "" {
				t.Errorf("dead import of %q: %s", bad, s)
			}
		}
		must(t, o, "dead", "replay", event.RawInput, "--error", "refused", "-y")
		c := stagetest.Client(t, o)
		kept := 0
		for _, e := range c.XRange(t.Context(), event.RawInput, "-", "+").Val() {
			if e.Values["id"] == ids[0] && e.Values["traceparent"] == trace && e.Values["track"] == "1" {
				kept++
			}
		}
		if kept != 1 {
			t.Errorf("%d entries have the trace and the track of the dead letter, want 1", kept)
		}
	})
}

// fits runs what writes tables on terminals of three widths. The rarest columns give way.
func fits(t *testing.T, o *redis.Options, id string) {
	t.Helper()
	for _, tc := range []struct{ command, always, wide string }{
		{"dead list", "refused", "PAYLOAD"},
		{"group list", "distance", "LOST"},
		{"find " + id, "set aside", "CRASHES"},
		{"status --sample 0", "DEAD", "CONSUMERS"},
	} {
		for _, width := range []int{60, 80, 200} {
			s := on(t, o, width, "NO_COLOR", strings.Fields(tc.command)...)
			for line := range strings.Lines(s.out) {
				n := len([]rune(strings.TrimSuffix(line, "\n")))
				table := strings.HasPrefix(line, "raw_input") || strings.HasPrefix(line, "distance") || strings.HasPrefix(line, "CHANNEL") || strings.HasPrefix(line, "STAGE")
				if table && n > width {
					t.Errorf("%s on %d columns has a line of %d: %q", tc.command, width, n, line)
				}
			}
			if !strings.Contains(s.out, tc.always) || width == 200 && !strings.Contains(s.out, tc.wide) {
				t.Errorf("%s on %d columns:\n%s", tc.command, width, s.out)
			}
		}
	}
}

// TestColour: states have colours on a terminal, unless NO_COLOR is set.
func TestColour(t *testing.T) {
	o := stagetest.Embedded(t)
	running(t, o, func(string) error { return nil })
	for env, want := range map[string]bool{"": true, "NO_COLOR": false} {
		if s := on(t, o, 100, env, "status", "--sample", "0"); strings.Contains(s.out, "\x1b[32mrunning\x1b[0m  0") != want || strings.Contains(s.out, "\x1b") != want {
			t.Errorf("status with %q: %s", env, s)
		}
	}
	if out := must(t, o, "status", "--sample", "0"); strings.Contains(out, "\x1b") {
		t.Errorf("status without a terminal has colours: %q", out)
	}
}

func TestManual(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "manual")
	must(t, nil, "manual", dir)
	for name, part := range map[string]string{
		"milepostctl.1": "Exit status", "milepostctl-dead-replay.1": "milepostctl dead replay", "milepostctl.bash": "__milepostctl", "_milepostctl": "#compdef",
		"milepostctl.fish": "complete -c milepostctl", "milepostctl.ps1": "Register-ArgumentCompleter",
	} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.Contains(string(b), part) {
			t.Errorf("%s: %v; want a file with %q", name, err, part)
		}
	}
}
