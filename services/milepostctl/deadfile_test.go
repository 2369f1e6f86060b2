package milepostctl

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

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
