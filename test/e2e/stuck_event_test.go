//go:build unix

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"html"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// chapters are the READMEs that tell what to do about a stuck event.
var chapters = []string{root + "/services/milepostctl/README.md", root + "/README.md"}

// TestStuckEvent seeds events that do not arrive and finds them, the reason and the way out through the tool alone and
// through the status page alone: while nobody runs their stage, while it fails again and again, and when it has set them
// aside. Then it runs the command that the one and the other name, and sees the lines arrive.
func TestStuckEvent(t *testing.T) {
	p := newPipeline(t, "MAX_TRIES=7", "STATUS_PAGE=on")
	services := p.start(all...)
	web, email := services[0], services[3]
	p.submit(golden)
	p.delivered(golden.Email)
	email.Stop()

	bob, eve := p.accepted(web, "bob@example.com"), p.accepted(web, "eve@example.com")
	docs := p.documents()
	stagetest.Eventually(t, "both are stored", func() bool { return docs.has(t, bob) && docs.has(t, eve) })

	// Nobody runs the stage.
	p.untilFound(bob, "waiting", "email is not running: its consumer journal-")
	p.untilPage(web, "email is not running", "Start it: what waits is kept.", "<code>"+bob+"</code>")
	if out, code := p.tool("status", "--check", "--sample", "0"); code != 5 || !strings.Contains(out, "! email is not running") {
		t.Errorf("status --check: exit status %d, want 5\n%s", code, out)
	}

	// It runs, and fails: somebody has deleted the documents.
	backup := docs.take(t, bob, eve)
	email.Start()
	p.untilFound(eve, "retrying", "the store has no record of it")
	p.untilPage(web, `data-event="`+eve+`"`, "the store has no record of it")
	letters := map[string]string{} // entry of each event's dead letter
	for _, d := range p.dead(event.UserEmail, 2) {
		letters[d.ID] = d.Entry
	}

	// It has set them aside. The tool alone: status names the command that lists them, that the command that replays them.
	out, _ := p.tool("status", "--sample", "0", "--output", "json")
	var status struct {
		Problems []struct {
			Stage, Text, Command string
			Urgent               bool
		}
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		t.Fatalf("status -o json: %v in %s", err, out)
	}
	if len(status.Problems) != 1 || status.Problems[0].Stage != "email" || !status.Problems[0].Urgent || !strings.Contains(status.Problems[0].Text, "the store has no record of it") {
		t.Fatalf("problems: %+v; want that email has set events aside, and why", status.Problems)
	}
	replay := ""
	for line := range strings.Lines(p.shell(status.Problems[0].Command + " --output json")) {
		var d struct{ ID, Error, Replay string }
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			t.Fatalf("%s: %v in %s", status.Problems[0].Command, err, line)
		}
		if d.ID == bob && strings.Contains(d.Error, "the store has no record of it") {
			replay = d.Replay
		}
	}
	p.golden("status.json", out)
	for name, args := range map[string][]string{
		"find":       {"find", bob},
		"dead-list":  {"dead", "list", event.UserEmail, "--id", bob},
		"dead-show":  {"dead", "show", event.UserEmail, letters[bob]},
		"group-list": {"group", "list", event.UserEmail},
	} {
		text, code := p.tool(args...)
		object, coded := p.tool(append(args, "--output", "json")...)
		if code != 0 || coded != 0 {
			t.Errorf("milepostctl %q: exit status %d, as JSON %d", args, code, coded)
		}
		p.golden(name+".txt", text)
		p.golden(name+".json", object)
	}
	for _, c := range chapter(t, "stuck event") {
		p.does(c, bob, letters[bob])
	}

	// The page alone, as a program and as a person without scripts see it.
	page := p.untilPage(web, "2 events were set aside by email")
	_, card, _ := strings.Cut(page, `<li class="card" data-event="`+eve+`">`)
	card, _, _ = strings.Cut(card, "</li>")
	_, command, _ := strings.Cut(card, `<dt>Replay</dt><dd><code class="command">`)
	command, _, _ = strings.Cut(command, "</code>")
	command = html.UnescapeString(command)
	p.golden("page.json", p.page(web, "/status.json"))
	if !strings.Contains(card, "the store has no record of it") || !strings.Contains(command, letters[eve]) {
		t.Fatalf("the page's dead letter of %s is %q; want its reason and the command", eve, card)
	}
	if strings.Contains(page, "@") {
		t.Errorf("the page shows an address:\n%s", page)
	}

	// Once the documents are restored, the commands bring the events back.
	docs.give(t, backup)
	if said := p.shell(replay); said != "replayed 1 dead letter\n" {
		t.Errorf("%s: %q", replay, said)
	}
	stagetest.Eventually(t, "bob's line is written", func() bool { n, _ := p.sent(); return n["bob@example.com"] == 1 })
	if said := p.shell(command); said != "replayed 1 dead letter\n" {
		t.Errorf("%s: %q", command, said)
	}
	p.delivered(golden.Email, "bob@example.com", "eve@example.com")
	p.dead(event.UserEmail, 0)
	p.untilPage(web, "All stages are running")
	if out, code := p.tool("find", bob, "--mongo", p.mongo); code != 0 || !strings.Contains(out, "document   stored") {
		t.Errorf("find of an event that went all the way: exit status %d\n%s", code, out)
	}
	alive(t, services)
}

// TestReplayChapter does what the READMEs say once the reason is mended, and asks the doctor about the store.
func TestReplayChapter(t *testing.T) {
	p := newPipeline(t, "MAX_TRIES=1")
	services := p.start(all...)
	p.submit(golden)
	p.delivered(golden.Email)
	docs := p.documents()
	for i, c := range chapter(t, "mended") {
		services[3].Stop()
		bob := p.accepted(services[0], "bob@example.com")
		stagetest.Eventually(t, "it is stored", func() bool { return docs.has(t, bob) })
		backup := docs.take(t, bob)
		services[3].Start()
		letter := p.dead(event.UserEmail, 1)[0]
		docs.give(t, backup)
		p.does(c, bob, letter.Entry)
		stagetest.Eventually(t, "bob's line is written", func() bool { n, _ := p.sent(); return n["bob@example.com"] == i+1 })
	}
	out, code := p.tool("doctor", "--mongo", p.mongo, "--output", "json")
	if code != 0 {
		t.Errorf("doctor: exit status %d\n%s", code, out)
	}
	for _, check := range []string{"redis appendfsync", "mongo version", "mongo role", "mongo index", "stages"} {
		if !strings.Contains(out, fmt.Sprintf(`{"check":%q,"state":"ok"`, check)) {
			t.Errorf("doctor does not find %s ok:\n%s", check, out)
		}
	}
}

// accepted submits for an address and returns the event ID.
func (p *pipeline) accepted(web *service, email string) (id string) {
	p.t.Helper()
	status, id, err := web.post(p.t.Context(), visit{email, "40.7128", "-74.0060"})
	if err != nil || status != http.StatusCreated {
		p.t.Fatalf("POST /distance of %s: %d, %v", email, status, err)
	}
	return id
}

// tool runs milepostctl as a person does who has REDIS_URL set, and returns its output and exit status.
func (p *pipeline) tool(args ...string) (string, int) {
	p.t.Helper()
	return p.run(append([]string{filepath.Join(p.bin, "milepostctl")}, args...)...)
}

// shell runs a command line that the tool or the page named. It must succeed.
func (p *pipeline) shell(command string) string {
	p.t.Helper()
	out, code := p.run("/bin/sh", "-ec", command)
	if code != 0 {
		p.t.Fatalf("%s: exit status %d\n%s", command, code, out)
	}
	return out
}

func (p *pipeline) run(args ...string) (string, int) {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), args[0], args[1:]...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Dir = filepath.Dir(p.log)
	cmd.Env = []string{"PATH=" + p.bin + ":" + os.Getenv("PATH"), "REDIS_URL=redis://" + p.redis.Addr, "TZ=UTC"}
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		p.t.Fatal(err)
	}
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		return out.String() + errs.String(), code
	}
	return out.String(), 0
}

// untilFound waits until find says all of words of an event.
func (p *pipeline) untilFound(id string, words ...string) {
	p.t.Helper()
	out := ""
	defer func() {
		if p.t.Failed() {
			p.t.Logf("find %s said last:\n%s", id, out)
		}
	}()
	stagetest.Eventually(p.t, fmt.Sprintf("find %s says %q", id, words), func() bool {
		out, _ = p.tool("find", id)
		return containsAll(out, words)
	})
}

// untilPage waits until the status page says all of words, and returns it.
func (p *pipeline) untilPage(s *service, words ...string) (page string) {
	p.t.Helper()
	defer func() {
		if p.t.Failed() {
			p.t.Logf("the page was last:\n%s", page)
		}
	}()
	stagetest.Eventually(p.t, fmt.Sprintf("the status page says %q", words), func() bool {
		page = p.page(s, "/status")
		return containsAll(page, words)
	})
	return page
}

// page is what a program's admin port answers.
func (p *pipeline) page(s *service, path string) string {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://"+s.admin+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		p.t.Fatalf("GET %s of %s: %s, %v\n%s", path, s.name, resp.Status, err, b)
	}
	return string(b)
}

func containsAll(text string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// anyEvent and anyEntry stand in the chapter for what each run has of its own.
var (
	anyEvent = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)
	anyEntry = regexp.MustCompile(`\b\d{13}-\d+\b`)
)

// task is a block of commands in a README, and the output that it shows.
type task struct{ file, sh, output string }

// chapter finds the blocks with a mark, of which there must be one at least.
func chapter(t *testing.T, mark string) (tasks []task) {
	t.Helper()
	for _, file := range chapters {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range marked.FindAllStringSubmatch(string(b), -1) {
			if m[1] == mark {
				tasks = append(tasks, task{file, m[2], m[3]})
			}
		}
	}
	if len(tasks) == 0 {
		t.Fatalf("no block of commands in %q is marked %q", chapters, mark)
	}
	return tasks
}

// does runs commands, with this event and entry in place of those in the README, and compares what they print.
func (p *pipeline) does(c task, eventID, entry string) {
	p.t.Helper()
	got := ""
	lines, _ := p.sent()
	before := lines["bob@example.com"]
	for command := range strings.Lines(c.sh) {
		command = anyEntry.ReplaceAllString(anyEvent.ReplaceAllString(command, eventID), entry)
		if strings.HasPrefix(command, "tail ") { // a person takes a moment
			stagetest.Eventually(p.t, "a line is written", func() bool { n, _ := p.sent(); return n["bob@example.com"] > before })
		}
		got += p.shell(command)
	}
	p.t.Logf("%s", got)
	if got, want := same(got), same(c.output); got != want {
		p.t.Errorf("the commands\n%sof %s print\n%s\nwhich is not what it shows:\n%s", c.sh, c.file, got, want)
	}
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
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		was, line := strings.Split(string(want), "\n"), 0
		for now := strings.Split(got, "\n"); line < min(len(now), len(was)) && now[line] == was[line]; line++ {
		}
		p.t.Errorf("%s is another from line %d on (%v); now it is\n%s", path, line+1, err, got)
	}
}

var differing = []struct {
	what *regexp.Regexp
	with string
}{
	{anyEvent, "EVENT"},
	{regexp.MustCompile(`journal-[0-9a-f-]{36}`), "JOURNAL"},
	{anyEntry, "ENTRY"},
	{regexp.MustCompile(`"[A-Za-z0-9.-]+-\d+-[0-9a-f]{8}"`), `"CONSUMER"`},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(Z| [+-]\d{4})?`), "TIME"},
	{regexp.MustCompile(`\d\d:\d\d:\d\d,\d{3}`), "TIME"},
	{regexp.MustCompile(`\b(\d+m)?\d+s\b`), "AGE"},
	{regexp.MustCompile(`"(entries|added)": \d+`), `"$1": N`}, // what is settled is trimmed now and then
	{regexp.MustCompile(`"rate": (null|[0-9.e+-]+)`), `"rate": N`},
	{regexp.MustCompile(`redis://127\.0\.0\.1:\d+`), "REDIS"},
	{regexp.MustCompile(`  +`), "  "},
	{regexp.MustCompile(`[ \t]+\n`), "\n"},
}

// same is output less what differs from run to run, and less the width of its columns.
func same(s string) string {
	for _, d := range differing {
		s = d.what.ReplaceAllString(s, d.with)
	}
	return strings.TrimSpace(s) + "\n"
}

// documents are those of the pipeline's store, for a test that is their enemy and their backup.
type documents struct{ users *mongo.Collection }

func (p *pipeline) documents() documents {
	p.t.Helper()
	c, err := mongo.Connect(options.Client().ApplyURI(p.mongo))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Disconnect(context.Background()) })
	return documents{c.Database("milepost").Collection(records.Collection)}
}

func (d documents) has(t testing.TB, id string) bool {
	t.Helper()
	n, err := d.users.CountDocuments(t.Context(), bson.D{{Key: "_id", Value: id}})
	if err != nil {
		t.Fatal(err)
	}
	return n == 1
}

// take deletes documents and returns them.
func (d documents) take(t testing.TB, ids ...string) (taken []bson.Raw) {
	t.Helper()
	for _, id := range ids {
		raw, err := d.users.FindOneAndDelete(t.Context(), bson.D{{Key: "_id", Value: id}}).Raw()
		if err != nil {
			t.Fatalf("delete document %s: %v", id, err)
		}
		taken = append(taken, raw)
	}
	return taken
}

func (d documents) give(t testing.TB, taken []bson.Raw) {
	t.Helper()
	for _, raw := range taken {
		if _, err := d.users.InsertOne(t.Context(), raw); err != nil {
			t.Fatalf("restore a document: %v", err)
		}
	}
}
