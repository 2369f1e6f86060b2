//go:build unix

package e2e

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestStuckEvent has events that do not arrive: first their stage does not run, then it fails again
// and again, then it has set them aside. Each time the tool alone and the status page alone show
// where they are, and why. At last both name the command that brings the events back, and the lines
// arrive.
func TestStuckEvent(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, "MAX_TRIES=100", "STATUS_PAGE=on")
	services := p.start(all...)
	web, email := services[0], services[3]
	p.submit(golden)
	p.delivered(golden.Email)
	email.Stop()
	ids := p.submit(visit{"bob@example.com", "40.7128", "-74.0060"}, visit{"eve@example.com", "40.7128", "-74.0060"})
	bob, eve := ids[0], ids[1]
	docs := p.users()
	docs.has(t, bob, eve)

	// The stage does not run.
	p.untilFound(bob, "waiting", "email is not running: its consumer journal-")
	p.untilPage(web, "email is not running", "Start it: its events are kept.", "<code>"+bob+"</code>")
	if out, code := p.run("milepostctl", "status", "--check", "--sample", "0"); code != 5 || !strings.Contains(out, "! email is not running") {
		t.Errorf("status --check: exit status %d, want 5\n%s", code, out)
	}

	// It runs and fails: the documents are gone.
	backup := docs.take(t, bob, eve)
	email.Start()
	p.untilFound(eve, "retrying", reason)
	p.untilPage(web, `data-event="`+eve+`"`, reason)

	// It has set them aside.
	email.Stop()
	email.Env = append(email.Env, "MAX_TRIES=1")
	email.Start()
	letters := map[string]string{} // entry of each event's dead letter
	for _, d := range p.dead(event.UserEmail, 2) {
		letters[d.ID] = d.Entry
	}
	byTool := p.replayByTool(t, bob)
	for name, args := range map[string][]string{
		"find":       {"find", bob},
		"dead-list":  {"dead", "list", event.UserEmail, "--id", bob},
		"dead-show":  {"dead", "show", event.UserEmail, letters[bob]},
		"group-list": {"group", "list", event.UserEmail},
	} {
		p.golden(name+".txt", p.must(append([]string{"milepostctl"}, args...)...))
		p.golden(name+".json", p.must(append([]string{"milepostctl", "--output", "json"}, args...)...))
	}
	for _, b := range commands(t, 1) {
		p.does(t, b, bob, letters[bob])
	}
	byPage := p.replayByPage(t, web, eve, letters[eve])

	// The documents are restored, and the commands bring the events back.
	docs.give(t, backup)
	for _, command := range []string{byTool, byPage} {
		if said := p.must("sh", "-ec", command); said != "replayed 1 dead letter\n" {
			t.Errorf("%s: %q", command, said)
		}
	}
	p.delivered(golden.Email, "bob@example.com", "eve@example.com")
	p.dead(event.UserEmail, 0)
	p.untilPage(web, "All stages are running")
	if out := p.must("milepostctl", "find", bob, "--mongo", p.mongo); !strings.Contains(out, "document   stored") {
		t.Errorf("find of an event that went all the way:\n%s", out)
	}
	alive(t, services)
}

// reason is why the events of TestStuckEvent are stuck.
const reason = "the store has no record of it"

// replayByTool finds the command that replays an event by the tool alone: status names the command
// that lists the dead letters, and the list names the command that replays each.
func (p *pipeline) replayByTool(t *testing.T, id string) (command string) {
	t.Helper()
	out := p.must("milepostctl", "status", "--sample", "0", "--output", "json")
	p.golden("status.json", out)
	var status struct {
		Problems []struct {
			Stage, Text, Command string
			Urgent               bool
		}
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		t.Fatalf("status -o json: %v in %s", err, out)
	}
	if len(status.Problems) != 1 || status.Problems[0].Stage != "email" || !status.Problems[0].Urgent || !strings.Contains(status.Problems[0].Text, reason) {
		t.Fatalf("problems: %+v; want that email has set events aside, and why", status.Problems)
	}
	for line := range strings.Lines(p.must("sh", "-ec", status.Problems[0].Command+" --output json")) {
		var d struct{ ID, Error, Replay string }
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			t.Fatalf("%s: %v in %s", status.Problems[0].Command, err, line)
		}
		if d.ID == id && strings.Contains(d.Error, reason) {
			command = d.Replay
		}
	}
	return command
}

// replayByPage finds the command that replays an event by the status page alone, without scripts.
func (p *pipeline) replayByPage(t *testing.T, web *service, id, entry string) (command string) {
	t.Helper()
	page := p.untilPage(web, "2 events were set aside by email")
	_, card, _ := strings.Cut(page, `<li class="card" data-event="`+id+`">`)
	card, _, _ = strings.Cut(card, "</li>")
	_, command, _ = strings.Cut(card, `<dt>Replay</dt>`)
	_, command, _ = strings.Cut(command, `<code class="command">`)
	command, _, _ = strings.Cut(command, "</code>")
	command = html.UnescapeString(command)
	if !strings.Contains(card, reason) || !strings.Contains(command, entry) {
		t.Fatalf("the page's dead letter of %s is %q; want its reason and the command", id, card)
	}
	if strings.Contains(page, "@") {
		t.Errorf("the page shows an address:\n%s", page)
	}
	p.golden("page.json", web.page("/status.json"))
	return command
}

// TestStuckEventReplay does what the READMEs say once the cause is fixed, and asks the doctor about
// the store.
func TestStuckEventReplay(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, "MAX_TRIES=1")
	services := p.start(all...)
	p.submit(golden)
	p.delivered(golden.Email)
	docs := p.users()
	for i, c := range commands(t, 1) {
		services[3].Stop()
		bob := p.submit(visit{"bob@example.com", "40.7128", "-74.0060"})[0]
		docs.has(t, bob)
		backup := docs.take(t, bob)
		services[3].Start()
		letter := p.dead(event.UserEmail, 1)[0]
		docs.give(t, backup)
		p.does(t, c, bob, letter.Entry)
		p.written("bob@example.com", i+1)
	}
	ok := func(check string) string { return fmt.Sprintf(`{"check":%q,"state":"ok"`, check) }
	p.until("doctor", func() string { return p.must("milepostctl", "doctor", "--mongo", p.mongo, "--output", "json") },
		[]string{ok("redis appendfsync"), ok("mongo version"), ok("mongo role"), ok("mongo index"), ok("pipeline")})
}

// untilFound waits until find says all of words of an event.
func (p *pipeline) untilFound(id string, words ...string) {
	p.t.Helper()
	p.until("find "+id, func() string { out, _ := p.run("milepostctl", "find", id); return out }, words)
}

// untilPage waits until the status page says all of words, and returns it.
func (p *pipeline) untilPage(s *service, words ...string) (page string) {
	p.t.Helper()
	return p.until("the status page", func() string { return s.page("/status") }, words)
}

// until asks until the answer has all of words.
func (p *pipeline) until(what string, ask func() string, words []string) (answer string) {
	p.t.Helper()
	missing := func(w string) bool { return !strings.Contains(answer, w) }
	defer func() {
		if slices.ContainsFunc(words, missing) {
			p.t.Logf("%s said last:\n%s", what, answer)
		}
	}()
	stagetest.Eventually(p.t, fmt.Sprintf("%s says %q", what, words), func() bool {
		answer = ask()
		return !slices.ContainsFunc(words, missing)
	})
	return answer
}

// does runs the commands of a document, with this event and entry in place of those that it shows.
func (p *pipeline) does(t *testing.T, b block, eventID, entry string) {
	t.Helper()
	b.try(t, func(command string) (string, int) {
		return p.run("sh", "-ec", anyEntry.ReplaceAllString(anyEvent.ReplaceAllString(command, eventID), entry))
	})
}

// golden compares what differs in nothing but times and IDs with a file.
func (p *pipeline) golden(name, got string) {
	p.t.Helper()
	if strings.HasSuffix(name, ".json") {
		var indented bytes.Buffer
		if err := json.Indent(&indented, []byte(got), "", "\t"); err != nil {
			p.t.Fatalf("%s: %v in %s", name, err, got)
		}
		got = indented.String()
	}
	got = same(got)
	path := filepath.Join("testdata", "stuck", name)
	if *update {
		stagetest.OK(p.t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		was, line := strings.Split(string(want), "\n"), 0
		for now := strings.Split(got, "\n"); line < min(len(now), len(was)) && now[line] == was[line]; line++ {
		}
		p.t.Errorf("%s is another from line %d on (%v); now it is\n%s", path, line+1, err, got)
	}
}
