package journal

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// TestMain makes this program a writer when a test starts it again: JOURNAL_WRITER names the log.
// It writes a line for each of JOURNAL_EVENTS events, in batches of 3, as if all of them were
// delivered again; prints "standby" when it waits for the lock, "open" and the identity when it has
// it, and the number of events after each batch; and ends after all, or at the end of its input if
// JOURNAL_HOLD is set.
func TestMain(m *testing.M) {
	path := os.Getenv("JOURNAL_WRITER")
	if path == "" {
		os.Exit(m.Run())
	}
	if err := writer(path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func writer(path string) error {
	events, err := strconv.Atoi(os.Getenv("JOURNAL_EVENTS"))
	if err != nil {
		return err
	}
	j, err := Open(context.Background(), Options{Path: path, Log: quiet, Segment: 10, Standby: func() { fmt.Println("standby") }})
	if err != nil {
		return err
	}
	fmt.Println("open", j.Identity())
	for n := 0; n < events; n += 3 {
		batch := lines(n, min(n+3, events))
		var ids []string
		for _, l := range batch {
			ids = append(ids, l.ID)
		}
		known, err := j.Find(ids)
		if err != nil {
			return err
		}
		var unknown []Line
		for _, l := range batch {
			if _, ok := known[l.ID]; !ok {
				unknown = append(unknown, l)
			}
		}
		if len(unknown) > 0 {
			if _, err := j.Write(noon, unknown); err != nil {
				return err
			}
			fmt.Println(n + len(batch))
		}
	}
	if os.Getenv("JOURNAL_HOLD") != "" {
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
	return j.Close()
}

// command prepares a writer.
func command(program, path string, events int, environment ...string) *exec.Cmd {
	c := exec.Command(program)
	c.Env = append(os.Environ(), append(environment, "JOURNAL_WRITER="+path, "JOURNAL_EVENTS="+strconv.Itoa(events))...)
	return c
}

// killed reports whether a process was ended by somebody, not by itself.
func killed(c *exec.Cmd) bool { return c.ProcessState != nil && c.ProcessState.ExitCode() == -1 }

// TestKillPoints kills a writer at each point, alone and one after the other, and lets the next one
// go on: with the log in place, and with it renamed after each kill.
func TestKillPoints(t *testing.T) {
	program := filepath.Join(t.TempDir(), "writer")
	if out, err := exec.Command("go", "test", "-tags", "killpoints", "-c", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go test -tags killpoints -c: %v\n%s", err, out)
	}
	const events = 40
	for _, plan := range [][]string{
		{"journal.before-record:1"}, {"journal.before-record:7"},
		{"journal.mid-record:1"}, {"journal.mid-record:7"},
		{"journal.after-record:1"}, {"journal.after-record:7"},
		{"journal.mid-line:1"}, {"journal.mid-line:7"},
		{"journal.after-line:1"}, {"journal.after-line:7"},
		{"journal.after-mark:1"}, {"journal.after-mark:7"},
		{"journal.after-sync:1"}, {"journal.after-sync:3"},
		{"journal.mid-seal:1"}, {"journal.mid-seal:3"},
		{"journal.after-seal:1"}, {"journal.after-seal:3"},
		{"journal.after-next:1"}, {"journal.after-next:3"},
		{"journal.after-remove:1"}, {"journal.after-remove:3"},
		{"journal.mid-line:4", "journal.mid-recovery:1", "journal.mid-recovery:1"},
		{"journal.after-record:4", "journal.mid-recovery:1", "journal.after-mark:1", "journal.mid-record:2"},
		{"journal.mid-seal:2", "journal.after-seal:1", "journal.after-next:1"},
		{"journal.mid-line:4", "journal.after-seal:1", "journal.mid-line:1", "journal.after-next:1", "journal.after-record:1"},
	} {
		for _, variant := range []string{"", "renamed"} {
			t.Run(strings.Join(plan, " ")+" "+variant, func(t *testing.T) {
				t.Parallel()
				path := filepath.Join(t.TempDir(), "log")
				for i, kill := range plan {
					c := command(program, path, events, "MILEPOST_KILL="+kill)
					if out, err := c.CombinedOutput(); !killed(c) {
						t.Fatalf("writer to be killed at %s ended with %v\n%s", kill, err, out)
					}
					if variant == "renamed" {
						if err := os.Rename(path, fmt.Sprint(path, ".", i)); err != nil && !os.IsNotExist(err) {
							t.Fatal(err)
						}
					}
				}
				if out, err := command(program, path, events).CombinedOutput(); err != nil {
					t.Fatalf("last writer: %v\n%s", err, out)
				}
				wantLines(t, path, events)
				if variant != "renamed" {
					wantContent(t, path, text(lines(0, events)))
				}
			})
		}
	}
}

// wantLines checks that the log and what it was renamed to have one line for each event and nothing
// else.
func wantLines(t *testing.T, path string, events int) {
	t.Helper()
	files, err := filepath.Glob(path + "*")
	stagetest.OK(t, err)
	seen := map[string]int{}
	for _, f := range files {
		if fi, err := os.Stat(f); err != nil || fi.IsDir() {
			continue
		}
		s := content(t, f)
		if s != "" && !strings.HasSuffix(s, "\n") {
			t.Errorf("%s ends in the middle of a line", f)
		}
		for l := range strings.Lines(s) {
			seen[l]++
		}
	}
	for n := range events {
		if got := seen[text(lines(n, n+1))]; got != 1 {
			t.Errorf("event %d has %d lines, want 1", n, got)
		}
	}
	if len(seen) != events {
		t.Errorf("%d different lines, want %d", len(seen), events)
	}
}

// TestStandby: a second process waits for the lock, and takes over identity and work when the first
// one is killed.
func TestStandby(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	start := func(events int) (*exec.Cmd, *bufio.Scanner) {
		c := command(os.Args[0], path, events, "JOURNAL_HOLD=1")
		out, err := c.StdoutPipe()
		stagetest.OK(t, err)
		in, err := c.StdinPipe()
		stagetest.OK(t, err)
		c.Stderr = t.Output()
		stagetest.OK(t, c.Start())
		t.Cleanup(func() { _ = in.Close(); _ = c.Process.Kill(); _ = c.Wait() })
		return c, bufio.NewScanner(out)
	}
	next := func(s *bufio.Scanner) string { s.Scan(); return s.Text() }

	first, out1 := start(6)
	open1 := next(out1)
	if !strings.HasPrefix(open1, "open journal-") || next(out1) != "3" || next(out1) != "6" {
		t.Fatalf("first writer says %q, want that it is open and wrote", open1)
	}
	_, out2 := start(9)
	if got := next(out2); got != "standby" {
		t.Fatalf("second writer says %q, want standby", got)
	}
	// Within this process too.
	ctx, cancel := context.WithTimeout(t.Context(), 3*lockPoll)
	defer cancel()
	if j, err := Open(ctx, Options{Path: path, Log: quiet}); err == nil {
		_ = j.Close()
		t.Fatal("Open got a lock that another process holds")
	}
	wantContent(t, path, text(lines(0, 6)))
	stagetest.OK(t, first.Process.Kill())
	if got := next(out2); got != open1 {
		t.Errorf("second writer says %q, want %q", got, open1)
	}
	if got := next(out2); got != "9" {
		t.Errorf("second writer says %q, want 9: the third batch is the only new one", got)
	}
	wantContent(t, path, text(lines(0, 9)))
}

// TestCloseHandsOver: a standby gets the journal as soon as it is closed.
func TestCloseHandsOver(t *testing.T) {
	j, path := opened(t)
	waits, got := make(chan struct{}), make(chan *Journal, 1)
	go func() {
		k, err := Open(context.Background(), Options{Path: path, Log: quiet, Standby: func() { close(waits) }})
		if err != nil {
			t.Error(err)
		}
		got <- k
	}()
	<-waits
	write(t, j, line(0))
	closed(t, j)
	closed(t, j) // once more does nothing
	if _, err := j.Write(time.Now(), lines(1, 2)); err == nil {
		t.Error("Write after Close succeeded")
	}
	k := <-got
	if k == nil {
		return
	}
	defer closed(t, k)
	write(t, k, lines(0, 2)...)
	wantContent(t, path, text(lines(0, 2)))
}
