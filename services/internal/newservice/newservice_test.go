package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// clone copies the repository as it is here, committed or not, under git.
func clone(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../../..")
	stagetest.OK(t, err)
	dir := t.TempDir()
	run(t, root, "sh", "-c", `git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -T - -cf - | tar -xf - -C "$0"`, dir)
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

// The payload is of the channel's type, and each service's own test passes. Removed, they leave
// nothing.
func TestKinds(t *testing.T) {
	dir := clone(t)
	all := []struct {
		spec
		reads string
	}{
		{spec{Name: "mirror", From: "user:email"}, "stage.Event[event.Address]"},
		{spec{Name: "far-away", From: "calculated_distance", To: "far.places"}, "stage.Event[event.Result]"},
		{spec{Name: "receipts", From: "email:sent"}, "stage.Event[event.Sent]"},
		{spec{Name: "warm", From: "weather_report"}, "stage.Event[weather.Report]"},
		{spec{Name: "moon2", From: "moons", To: "tides"}, "stage.Event[json.RawMessage]"},
	}
	test := []string{"test"}
	for i, s := range all {
		s.Root = dir
		w, err := write(s.spec)
		if port := []int{9106, 9107, 9108, 9109, 9111}[i]; err != nil || w.port != port { // 9110 is standalone's
			t.Fatalf("write(%+v) = %+v, %v; want the port %d", s.spec, w, err, port)
		}
		if b, err := os.ReadFile(filepath.Join(dir, w.handle)); err != nil || !bytes.Contains(b, []byte(s.reads)) {
			t.Errorf("%s: %v; want a handler of %s:\n%s", w.handle, err, s.reads, b)
		}
		test = append(test, "./services/"+s.Name+"/...")
	}
	run(t, dir, "go", test...)
	for _, s := range slices.Backward(all) {
		if channel, err := channelOf(spec{Root: dir, Name: s.Name}); err != nil || channel != s.From {
			t.Errorf("channelOf(%s) = %q, %v; want %q", s.Name, channel, err, s.From)
		}
		if _, err := remove(spec{Root: dir, Name: s.Name}); err != nil {
			t.Errorf("remove(%s): %v", s.Name, err)
		}
	}
	if out := run(t, dir, "git", "status", "--porcelain"); out != "" {
		t.Errorf("after all are removed: %s", out)
	}
}

// What cannot work is refused with the name of the variable, and nothing is left behind.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	run(t, dir, "sh", "-c", "touch go.work && mkdir -p services/taken services/weather")
	for _, tc := range []struct {
		in   spec
		says string
	}{
		{spec{From: "a"}, "NAME is missing"},
		{spec{Name: "Tide", From: "a"}, "NAME: "},
		{spec{Name: "../x", From: "a"}, "NAME: "},
		{spec{Name: "func", From: "a"}, "NAME: "},
		{spec{Name: "config", From: "a"}, "NAME: "},
		{spec{Name: "taken", From: "a"}, "NAME: there is a services/taken already"},
		{spec{Name: "tide"}, "FROM is missing"},
		{spec{Name: "tide", From: "a b"}, "FROM: "},
		{spec{Name: "tide", From: "a", To: `b"c`}, "TO: "},
		{spec{Name: "tide", From: "a", To: "a"}, "TO: a is also FROM"},
		{spec{Name: "tide", From: "a", To: "user:email"}, "TO: user:email belongs to db"},
	} {
		tc.in.Root = dir
		_, err := write(tc.in)
		if err == nil || !strings.HasPrefix(err.Error(), tc.says) {
			t.Errorf("write(%+v): %v, want a refusal %q", tc.in, err, tc.says)
		}
	}
	if _, err := write(spec{Root: t.TempDir(), Name: "tide", From: "a"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Write in a folder that is not the repository: %v", err)
	}
	for _, name := range []string{"", "weather", "internal", "nothing", ".."} {
		if _, err := remove(spec{Root: dir, Name: name}); err == nil {
			t.Errorf("remove(%q): no error", name)
		}
	}
	if all, err := filepath.Glob(filepath.Join(dir, "services", "*")); err != nil || len(all) != 2 {
		t.Errorf("services has %q, %v; want what it had", all, err)
	}
}

// Without the mark in a list nothing is written.
func TestNoMark(t *testing.T) {
	dir := t.TempDir()
	run(t, dir, "touch", "go.work")
	content := map[string][]byte{}
	for path := range lists {
		content[path] = []byte("services: {}\n")
	}
	stagetest.OK(t, writeAll(dir, content))
	if _, err := write(spec{Root: dir, Name: "tide", From: "a"}); err == nil || !strings.Contains(err.Error(), "has no line") {
		t.Errorf("Write = %v; want that a list has no mark", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "services")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat(services) = %v; want nothing there", err)
	}
}
