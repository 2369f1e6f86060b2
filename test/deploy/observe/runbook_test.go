package observe

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/services/milepostctl"
)

const runbookURL = "https://github.com/milepost/milepost/blob/main/deploy/RUNBOOK.md#"

func runbook(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("../../../deploy/RUNBOOK.md")
	stagetest.OK(t, err)
	return string(b)
}

// anchors are those that GitHub gives to a page's headings.
func anchors(page string) []string {
	var out []string
	for _, h := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(page, -1) {
		out = append(out, strings.ReplaceAll(regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-"))
	}
	return out
}

func TestRunbook(t *testing.T) {
	page := runbook(t)
	entries := map[string]string{}
	for _, e := range regexp.MustCompile(`(?m)^### (Milepost\w+)\n\n\*(\w+)\* · `).FindAllStringSubmatch(page, -1) {
		entries[e[1]] = e[2]
	}
	for _, r := range alerts(t) {
		if entries[r.Alert] != r.Labels["severity"] {
			t.Errorf("%s is %s; the runbook's entry says %q", r.Alert, r.Labels["severity"], entries[r.Alert])
		}
		if want := runbookURL + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want {
			t.Errorf("%s: runbook_url = %q, want %q", r.Alert, r.Annotations["runbook_url"], want)
		}
		delete(entries, r.Alert)
	}
	for name := range entries {
		t.Errorf("the runbook has an entry for %s, which is no alert", name)
	}
	for _, part := range strings.Split(page, "\n### ") {
		if name, text, _ := strings.Cut(part, "\n"); strings.HasPrefix(name, "Milepost") && !regexp.MustCompile(`(?m)^Wake `).MatchString(text) {
			t.Errorf("%s: the runbook does not say when to wake someone", name)
		}
	}
	for _, link := range regexp.MustCompile(`\]\(([^)\s]*?)(?:#([^)]*))?\)`).FindAllStringSubmatch(page, -1) {
		target := page
		if link[1] != "" {
			b, err := os.ReadFile("../../../deploy/" + link[1])
			if err != nil {
				t.Errorf("link %s: %v", link[0], err)
			}
			target = string(b)
		}
		if link[2] != "" && !slices.Contains(anchors(target), link[2]) {
			t.Errorf("link %s: there is no such heading", link[0])
		}
	}
	documented := metrics(t)
	for _, name := range regexp.MustCompile("`((?:stage|milepost|http)_\\w+)`").FindAllStringSubmatch(page, -1) {
		if _, ok := documented[name[1]]; !ok {
			t.Errorf("no program exports %s", name[1])
		}
	}
	panels := map[string]bool{}
	for _, d := range dashboards(t) {
		for _, p := range d.Panels {
			panels[p.Title] = true
		}
	}
	for _, title := range regexp.MustCompile(`"([A-Z][^"\n]+)"`).FindAllStringSubmatch(page, -1) {
		if !panels[title[1]] {
			t.Errorf("no dashboard has a panel %q", title[1])
		}
	}
}

// Every command of the tool that the runbook names exists, with its flags.
func TestRunbookCommands(t *testing.T) {
	commands := map[string]bool{}
	for _, c := range regexp.MustCompile("(?m)(?:^|`)milepostctl ([^`#>|\n]+)").FindAllStringSubmatch(strings.ReplaceAll(runbook(t), " --url\n", " --url "), -1) {
		commands[strings.ReplaceAll(strings.TrimSpace(c[1]), "'", "")] = true
	}
	if len(commands) < 10 {
		t.Fatalf("found only %d commands of milepostctl", len(commands))
	}
	for c := range commands {
		// With --help, words and flags are checked and nothing is done.
		var out bytes.Buffer
		io := milepostctl.IO{In: strings.NewReader(""), Out: &out, Err: &out, Getenv: func(string) string { return "" }}
		code := milepostctl.Main(t.Context(), append(strings.Fields(c), "--help"), io)
		if code != milepostctl.ExitOK || strings.Contains(out.String(), "Available Commands:") { // the help of a group: the word after it is wrong
			t.Errorf("milepostctl %s --help: exit status %d\n%s", c, code, &out)
		}
	}
}
