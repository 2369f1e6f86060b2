//go:build unix

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// block is a fenced block of shell commands in the README that is marked for a test, and the output shown after it.
type block struct{ sh, output string }

var marked = regexp.MustCompile("(?s)<!-- test: ([^>]*) -->\n```sh\n(.*?)```\n(?:\n```text\n(.*?)```\n)?")

// readme returns the marked blocks of the README by their mark, in order.
func readme(t *testing.T) map[string][]block {
	t.Helper()
	b, err := os.ReadFile(root + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string][]block{}
	for _, m := range marked.FindAllStringSubmatch(string(b), -1) {
		blocks[m[1]] = append(blocks[m[1]], block{m[2], m[3]})
	}
	return blocks
}

// clone copies the repository's files, without what was built or run in it.
func clone(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && (rel == ".git" || rel == "bin" || rel == "data"):
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(dir, rel), 0o755)
		case !d.Type().IsRegular() || strings.HasPrefix(rel, "sent_emails"):
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, rel), b, 0o755)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// shell makes a process of commands in a folder; ports in them are replaced, since those of the README may be taken here.
// Signals go to all that the commands started.
func shell(t *testing.T, name, dir, commands string, ports *strings.Replacer, env ...string) *process {
	t.Helper()
	commands = ports.Replace(commands)
	p := newProcess(t, name, "/bin/sh", "-ec", commands)
	p.dir, p.group = dir, true
	p.env = append(os.Environ(), append(env, "TZ=UTC", "ADMIN_LISTEN=127.0.0.1:0", "WEATHER_PROVIDER_URL=off")...)
	t.Logf("%s:\n%s", name, commands)
	return p
}

// TestReadmeRun does what the README says under "Run it".
func TestReadmeRun(t *testing.T) {
	blocks := readme(t)
	if len(blocks["run, in the background"]) != 1 || len(blocks["run"]) != 2 {
		t.Fatalf("the README has other blocks for this test: %q", blocks)
	}
	stagetest.Real(t) // for redis-cli: it comes with the server
	dir := clone(t)
	page, embedded, documents := freeAddr(t), freeAddr(t), freeAddr(t)
	_, redisPort, _ := strings.Cut(embedded, ":")
	ports := strings.NewReplacer("localhost:8000", page, "localhost:6390", embedded, "6390", redisPort)
	env := []string{"LISTEN=" + page, "EMBEDDED_REDIS=" + embedded, "EMBEDDED_MONGO=" + documents}

	whole := shell(t, "make run", dir, blocks["run, in the background"][0].sh, ports, env...)
	start := func() {
		t.Helper()
		whole.Start()
		stagetest.Eventually(t, "the page is there", func() bool {
			if !whole.Running() {
				t.Fatalf("make run has ended with status %d", whole.Wait())
			}
			resp, err := client.Get("http://" + page)
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		})
	}
	start()

	log := filepath.Join(dir, "sent_emails")
	curl := blocks["run"][0]
	post, look, _ := strings.Cut(curl.sh, "\n") // a person takes a moment between the two
	first := shell(t, "curl", dir, post, ports)
	first.Start()
	if code := first.Wait(); code != 0 {
		t.Fatalf("curl ended with status %d", code)
	}
	stagetest.Eventually(t, "sent_emails has a line", func() bool { return logged(t, log) == 1 })
	second := shell(t, "tail", dir, look, ports)
	second.Start()
	second.Wait()
	if got, want := normal(first.Output()+second.Output()), normal(curl.output); got != want {
		t.Errorf("the README's curl prints\n%s\nwant\n%s", got, want)
	}

	rest := shell(t, "the README's other commands", dir, blocks["run"][1].sh, ports)
	rest.Start()
	if code := rest.Wait(); code != 0 {
		t.Fatalf("they ended with status %d", code)
	}
	stagetest.Eventually(t, "sent_emails has the lines of what was published", func() bool { return logged(t, log) == 3 })
	if !strings.Contains(rest.Output(), "distance") {
		t.Errorf("group list does not name the stage distance:\n%s", rest.Output())
	}

	whole.signal(syscall.SIGINT)
	whole.Wait() // make's own status is that of an interrupted make
	for _, text := range []string{"redis-cli -p " + redisPort, log} {
		if !strings.Contains(whole.Output(), text) {
			t.Errorf("make run does not print %s:\n%s", text, whole.Output())
		}
	}

	start()
	store, err := records.Open("mongodb://"+documents+"/", "milepost")
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close(context.Background())
	for _, email := range []string{"ada", "bob", "eve"} {
		if _, ok, err := store.Newest(t.Context(), email+"@example.com"); !ok || err != nil {
			t.Errorf("the document of %s after a restart: %v, %v", email, ok, err)
		}
	}
}

// TestReadmeByHand starts the four programs as the README says and submits.
func TestReadmeByHand(t *testing.T) {
	blocks := readme(t)
	if len(blocks["by hand"]) != 1 {
		t.Fatalf("the README has other blocks for this test: %q", blocks)
	}
	stagetest.Real(t)
	dir := clone(t)
	page, broker, store := freeAddr(t), freeAddr(t), freeAddr(t)
	_, redisPort, _ := strings.Cut(broker, ":")
	_, mongoPort, _ := strings.Cut(store, ":")
	ports := strings.NewReplacer(
		"--bind 127.0.0.1", "--bind 127.0.0.1 --port "+redisPort,
		"standalone store", "standalone store --listen "+store,
		"localhost:8000", page)

	hand := shell(t, "by hand", dir, blocks["by hand"][0].sh, ports, "REDIS_PORT="+redisPort, "MONGO_PORT="+mongoPort, "LISTEN="+page)
	hand.Start()
	post, _, _ := strings.Cut(blocks["run"][0].sh, "\n")
	stagetest.Eventually(t, "a submission is accepted", func() bool {
		if !hand.Running() {
			t.Fatalf("the commands have ended with status %d", hand.Wait())
		}
		resp, err := client.Get("http://" + page)
		if err != nil {
			return false
		}
		resp.Body.Close()
		curl := shell(t, "curl", dir, strings.Replace(post, "curl ", "curl -f ", 1), ports)
		curl.Start()
		return curl.Wait() == 0
	})
	stagetest.Eventually(t, "sent_emails has a line", func() bool { return logged(t, filepath.Join(dir, "sent_emails")) == 1 })
	b, err := os.ReadFile(filepath.Join(dir, "sent_emails"))
	if err != nil || !strings.Contains(string(b), "ada@example.com; Message: You are "+goldenMiles+" miles") {
		t.Errorf("sent_emails: %q, %v; want the golden distance", b, err)
	}
}

// logged is the number of lines in a log.
func logged(t *testing.T, log string) int {
	t.Helper()
	b, err := os.ReadFile(log)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Count(string(b), "\n")
}

var changing = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`\d\d:\d\d:\d\d,\d{3}`), "TIME"},
}

// normal is output less what differs from run to run.
func normal(s string) string {
	for _, c := range changing {
		s = c.what.ReplaceAllString(s, c.with)
	}
	return fmt.Sprintln(strings.TrimSpace(s))
}
