//go:build unix

package e2e

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/test/process"
)

// answers waits until the page at address is there.
func answers(p *process.Process, address string) {
	p.T.Helper()
	p.Compiled("answers at "+address, func() bool {
		status, _, err := ask(p.T.Context(), http.MethodGet, "http://"+address)
		return err == nil && status == http.StatusOK
	})
}

// TestReadmeRun does what the README says under "Run it".
func TestReadmeRun(t *testing.T) {
	t.Parallel()
	blocks := commands(t, 3)
	page, embedded, documents := process.Addr(t), process.Addr(t), process.Addr(t)
	_, redisPort, _ := strings.Cut(embedded, ":")
	at := newTerminal(t, []string{"LISTEN=" + page, "EMBEDDED_REDIS=" + embedded, "EMBEDDED_MONGO=" + documents},
		"localhost:8000", page, "localhost:6390", embedded, "6390", redisPort)
	whole := at.start(blocks[0].sh)
	answers(whole, page)
	blocks[1].try(t, at.run)
	if out := blocks[2].try(t, at.run); !strings.Contains(out, "distance") {
		t.Errorf("group list does not name the stage distance:\n%s", out)
	}
	stagetest.Eventually(t, "sent_emails has the lines of what was published", func() bool { return at.logged() == 2 })

	whole.Signal(syscall.SIGINT)
	whole.Wait() // make's own status is that of an interrupted make
	for _, text := range []string{"http://" + page + "/", "redis-cli -p " + redisPort, "tail -F", filepath.Join(at.dir, "sent_emails"), "Ctrl-C", "SIGKILL"} {
		if !strings.Contains(whole.Output(), text) {
			t.Errorf("make run does not print %s:\n%s", text, whole.Output())
		}
	}

	whole.Start()
	answers(whole, page)
	store, err := records.Open("mongodb://"+documents+"/", "milepost", 0)
	stagetest.OK(t, err)
	defer store.Close(context.Background())
	for _, email := range []string{"ada", "bob"} {
		if _, ok, err := store.Newest(t.Context(), email+"@example.com"); !ok || err != nil {
			t.Errorf("the document of %s after a restart: %v, %v", email, ok, err)
		}
	}
}

// TestByHand starts the four programs as CONTRIBUTING.md says, and submits.
func TestByHand(t *testing.T) {
	t.Parallel()
	block := commands(t, 1)[0]
	page, broker, store := process.Addr(t), process.Addr(t), process.Addr(t)
	_, redisPort, _ := strings.Cut(broker, ":")
	_, mongoPort, _ := strings.Cut(store, ":")
	at := newTerminal(t, []string{"REDIS_PORT=" + redisPort, "MONGO_PORT=" + mongoPort, "LISTEN=" + page},
		"--bind 127.0.0.1", "--bind 127.0.0.1 --port "+redisPort, "standalone store", "standalone store --listen "+store)
	answers(at.start(block.sh), page)
	stagetest.Eventually(t, "a submission is accepted", func() bool {
		status, _, err := post(t, "http://"+page, golden, "")
		return err == nil && status == http.StatusCreated
	})
	stagetest.Eventually(t, "sent_emails has a line", func() bool { return at.logged() == 1 })
	b, err := os.ReadFile(filepath.Join(at.dir, "sent_emails"))
	if err != nil || !strings.Contains(string(b), golden.Email+"; Message: You are "+goldenMiles+" miles") {
		t.Errorf("sent_emails: %q, %v; want the golden distance", b, err)
	}
}

// TestAddService adds a service as CONTRIBUTING.md says, which changes nothing of others. It runs
// it beside `make run`, sees its first event, and removes it with its group.
func TestAddService(t *testing.T) {
	t.Parallel()
	blocks := commands(t, 2)
	page, embedded := process.Addr(t), process.Addr(t)
	at := newTerminal(t, []string{"LISTEN=" + page, "EMBEDDED_REDIS=" + embedded, "EMBEDDED_MONGO=" + process.Addr(t)}, "127.0.0.1:6390", embedded)
	answers(at.start("make run"), page)
	at.run("git add -A")
	said := blocks[0].try(t, at.run)
	for _, says := range []string{"services/tide/cmd/tide/main.go\n", "  docker-compose.yml\n", "Handle in services/tide/tide.go", "go test ./services/tide/..."} {
		if !strings.Contains(said, says) {
			t.Errorf("make new-service says %q, want %q in it", said, says)
		}
	}
	const changes = "git diff --numstat; git ls-files --others --exclude-standard"
	if out, _ := at.run(changes); out != "1\t0\tcharts/milepost/files/observability/prometheus.yml\n3\t0\tcharts/milepost/values.yaml\n7\t0\tdocker-compose.yml\n"+
		"services/tide/cmd/tide/main.go\nservices/tide/tide.go\nservices/tide/tide_test.go\n" {
		t.Errorf("lines that make new-service added and removed, and its files:\n%s", out)
	}
	listening := at.start(blocks[1].sh)
	listening.Says("stage=tide")
	listening.Says("listening on raw_input, tides")
	_, id, err := post(t, "http://"+page, golden, "")
	stagetest.OK(t, err)
	listening.Says(`tides      {"id":"` + id + `"}`)

	remove := func() (string, int) { return at.run("REDIS_URL=redis://127.0.0.1:6390 make remove-service NAME=tide") }
	if out, code := remove(); code != 2 || !strings.Contains(out, "consumers of the group are alive; stop them first") {
		t.Errorf("make remove-service of a service that runs: exit status %d\n%s", code, out)
	}
	listening.Signal(syscall.SIGTERM)
	stagetest.Eventually(t, "the stopped service is removed, and its group is retired", func() bool {
		out, code := remove()
		return code == 0 && strings.Contains(out, "Retired group tide of raw_input")
	})
	if out, _ := at.run(changes); out != "" {
		t.Errorf("make remove-service left changes:\n%s", out)
	}
	if out, code := at.run("make remove-service NAME=weather"); code != 2 || !strings.Contains(out, "NAME: weather is a part of Milepost") {
		t.Errorf("make remove-service of weather: exit status %d\n%s", code, out)
	}
}
