package newservice_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/services/milepostctl/newservice"
)

// clone copies the repository as it is here, committed or not, under git. The files with lists of services are made if they are
// not there.
func clone(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = root
	names, err := list.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if _, err := os.Readlink(filepath.Join(root, name)); err == nil { // to a folder, which is copied under its own name
			continue
		}
		b, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) { // deleted, and not committed yet
			continue
		}
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for path := range newservice.Lists {
		path = filepath.Join(dir, path)
		if b, err := os.ReadFile(path); err == nil && bytes.Contains(b, []byte(newservice.Mark)) {
			continue
		}
		if err := os.WriteFile(path, []byte("services:\n  "+newservice.Mark+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run(t, dir, "git", "init", "-q")
	run(t, dir, "git", "add", "-A")
	run(t, dir, "git", "-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "-q", "-m", "before")
	return dir
}

func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "MAKEFLAGS=", "MAKELEVEL=") // the make that runs the tests is another one
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// What the README says: make new-service in a copy of the tree, build it, send an event through it, and see that nothing but
// its folder, the compose file, its Prometheus' targets and the chart's values has changed.
func TestNewService(t *testing.T) {
	dir := clone(t)
	run(t, dir, "make", "new-service", "NAME=tide", "FROM=raw_input", "TO=tides")
	var changed []string
	for line := range strings.Lines(run(t, dir, "git", "status", "--porcelain", "--untracked-files=all")) {
		path := strings.TrimSpace(line[3:])
		if rest, ok := strings.CutPrefix(path, "services/tide/"); ok {
			path = "services/tide/…"
			if !slices.Contains([]string{"tide.go", "tide_test.go", "cmd/tide/main.go"}, rest) {
				t.Errorf("unexpected file services/tide/%s", rest)
			}
		}
		if !slices.Contains(changed, path) {
			changed = append(changed, path)
		}
	}
	slices.Sort(changed)
	if want := []string{"charts/milepost/files/observability/prometheus.yml", "charts/milepost/values.yaml", "docker-compose.yml", "services/tide/…"}; !slices.Equal(changed, want) {
		t.Errorf("changed: %q, want only %q", changed, want)
	}
	diff := run(t, dir, "git", "diff")
	for _, line := range []string{"+  tide:\n", "+    build: {<<: *build, args: {<<: *version, SERVICE: tide}}\n", "+    adminPort: 9106\n", "names: [tide], type: A, port: 9106"} {
		if !strings.Contains(diff, line) {
			t.Errorf("the changes lack the line %q:\n%s", line, diff)
		}
	}
	for line := range strings.Lines(diff) {
		if strings.HasPrefix(line, "-") && !strings.HasPrefix(line, "---") {
			t.Errorf("the changes remove %q", line)
		}
	}

	bin := filepath.Join(t.TempDir(), "tide")
	run(t, dir, "go", "vet", "./services/tide/...")
	run(t, filepath.Join(dir, "services", "tide"), "env", "GOWORK=off", "go", "build", "-o", bin, "./cmd/tide")
	if out := run(t, dir, "gofmt", "-l", "services/tide"); out != "" {
		t.Errorf("gofmt -l: %s", out)
	}
	run(t, dir, "go", "test", "./services/tide/...")
	throughTide(t, bin)

	again := exec.Command("make", "new-service", "NAME=tide", "FROM=raw_input")
	again.Dir = dir
	if out, err := again.CombinedOutput(); err == nil || !strings.Contains(string(out), "services/tide already") {
		t.Errorf("a second one of that name: %v\n%s", err, out)
	}
}

// throughTide runs the program and sends an event through it.
func throughTide(t *testing.T, bin string) {
	t.Helper()
	o := stagetest.Real(t).Options()
	_, port, _ := strings.Cut(o.Addr, ":")
	cmd := exec.Command(bin)
	cmd.Env = []string{"REDIS_PORT=" + port, "ADMIN_LISTEN=127.0.0.1:0"}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	b, err := stage.Open(stage.Options{Redis: o})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	p := b.Publisher("test", "raw_input")
	defer p.Close()
	r, err := p.Publish(t.Context(), stage.Submission{Body: []byte(`{"email":"ada@example.com","lat":"1","long":"2"}`)})
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(o)
	defer rdb.Close()
	defer func() {
		if t.Failed() {
			t.Logf("the service said:\n%s", &stderr)
		}
	}()
	stagetest.Eventually(t, "the event "+r.ID+" comes out on tides", func() bool {
		all, err := rdb.XRange(t.Context(), "tides", "-", "+").Result()
		if err != nil {
			t.Fatal(err)
		}
		return len(all) == 1 && all[0].Values["payload"] == `{"id":"`+r.ID+`"}`
	})
}

// Each kind of channel, with and without an output, gives a service whose own test passes.
func TestKinds(t *testing.T) {
	dir := clone(t)
	for _, s := range []newservice.Spec{
		{Name: "mirror", From: "user:email"},
		{Name: "far-away", From: "calculated_distance", To: "far.places"},
		{Name: "receipts", From: "email:sent"},
		{Name: "moon2", From: "tides", To: "moons"},
	} {
		s.Root = dir
		if left, err := newservice.Write(s); err != nil || len(left) != 0 {
			t.Fatalf("Write(%+v) = %v, %v", s, left, err)
		}
	}
	run(t, dir, "go", "test", "./services/mirror/...", "./services/far-away/...", "./services/receipts/...", "./services/moon2/...")
	values, err := os.ReadFile(filepath.Join(dir, "charts/milepost/values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range []string{"9106", "9107", "9108", "9109"} {
		if strings.Count(string(values), "adminPort: "+port) != 1 {
			t.Errorf("port %s is not given once:\n%s", port, values)
		}
	}
}

// What cannot work is refused, and nothing is left behind.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.work": "go 1.25.0\n", "services/taken/x": ""} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []newservice.Spec{
		{Name: "", From: "a"}, {Name: "Tide", From: "a"}, {Name: "../x", From: "a"}, {Name: "func", From: "a"}, {Name: "tide", From: ""},
		{Name: "tide", From: "a b"}, {Name: "tide", From: "a", To: "b\"c"}, {Name: "tide", From: "a", To: "a"}, {Name: "tide", From: "a", To: "user:email"},
		{Name: "taken", From: "a"}, {Name: "tide", From: "a", Root: t.TempDir()},
	} {
		if s.Root == "" {
			s.Root = dir
		}
		if _, err := newservice.Write(s); err == nil {
			t.Errorf("Write(%+v): no error", s)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "services/tide")); !os.IsNotExist(err) {
		t.Errorf("services/tide is left behind: %v", err)
	}
}

// A file without the mark is left alone, and its lines are returned.
func TestNoMark(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.work": "go 1.25.0\n", "docker-compose.yml": "services: {}\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	left, err := newservice.Write(newservice.Spec{Root: dir, Name: "tide", From: "a"})
	if err != nil || !strings.Contains(left["docker-compose.yml"], "  tide:\n") || !strings.Contains(left["charts/milepost/values.yaml"], "  tide:\n") {
		t.Errorf("Write = %q, %v; want the lines of both files", left, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "docker-compose.yml")); err != nil || string(b) != "services: {}\n" {
		t.Errorf("docker-compose.yml is now %q, %v", b, err)
	}
}
