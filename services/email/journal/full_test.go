//go:build linux || darwin

package journal

import (
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// limit lets files grow to size bytes, -1 for no limit. A write over it is cut short there, as on a
// full disk.
func limit(t *testing.T, size int64) {
	t.Helper()
	var l syscall.Rlimit
	stagetest.OK(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &l))
	l.Cur = l.Max
	if size >= 0 {
		l.Cur = uint64(size)
	}
	stagetest.OK(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l))
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	fi, err := os.Stat(path)
	stagetest.OK(t, err)
	return fi.Size()
}

// TestFull has the disk full at each byte of a batch's record and of its lines, and room again
// later. The limit is the process', so this runs in one of its own.
func TestFull(t *testing.T) {
	if os.Getenv("JOURNAL_FULL") == "" {
		c := exec.Command(os.Args[0], "-test.run=^TestFull$", "-test.v")
		c.Env = append(os.Environ(), "JOURNAL_FULL=1")
		if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestFull/ids") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	defer limit(t, -1)
	dir := t.TempDir()
	c := recordCrash(t, dir)
	path := filepath.Join(dir, "log")
	batch := lines(5, 7)
	marked := c.record[:len(c.record)-1] + string(rune(done))
	big := strings.Repeat("note\n", 1000) // makes the log the file that is over the limit first
	for name, tc := range map[string]struct{ log, grows, other string }{
		"journal": {c.log + c.lines, filepath.Join(path+".journal", "00000001.records"), path},
		"log":     {big, path, filepath.Join(path+".journal", "00000001.records")},
	} {
		t.Run(name, func(t *testing.T) {
			for cut, room := int64(0), false; !room; cut++ {
				c.set(t, dir, marked, tc.log)
				j := open(t, path)
				limit(t, size(t, tc.grows)+cut)
				_, err := j.Write(noon, batch)
				if room = err == nil; !room {
					if err := j.Probe(); err == nil {
						t.Fatal("Probe found a disk that is full in order")
					}
					if _, err := j.Write(noon, lines(7, 8)); name == "log" && err == nil {
						t.Fatal("Write went on with unfinished lines before it")
					}
				}
				if cut%7 == 0 && !room { // a crash while it is full
					closed(t, j)
					j = open(t, path)
				}
				limit(t, -1)
				if err := j.Probe(); err != nil {
					t.Fatalf("Probe with room: %v", err)
				}
				write(t, j, batch...)
				closed(t, j)
				got := content(t, path)
				if name == "journal" {
					got = strings.Replace(got, text(lines(7, 8)), "", 1) // if it fitted
				}
				if want := tc.log + text(batch); got != want {
					t.Fatalf("room for %d bytes: log holds %q, want %q", cut, got, want)
				}
			}
		})
	}
	t.Run("ids", testFullIDs)
}

// testFullIDs: without room for the next segment, this one stays in use.
func testFullIDs(t *testing.T) {
	j, path := opened(t, segmentOf(200))
	write(t, j, lines(0, 199)...)
	limit(t, size(t, filepath.Join(path+".journal", idsName)))
	for n := 199; n < 205; n++ {
		write(t, j, line(n))
	}
	if j.ids.state.Sealed != 0 || !j.rollFailed {
		t.Errorf("segment %d was moved to ids.db without room for it", j.ids.state.Sealed)
	}
	limit(t, -1)
	write(t, j, line(205))
	if j.ids.state.Sealed != 1 {
		t.Error("the segment was not moved to ids.db when there was room")
	}
	closed(t, j)
	j = open(t, path, segmentOf(200))
	defer closed(t, j)
	wantKnown(t, j, 206, 300)
	wantContent(t, path, text(lines(0, 206)))
}

// TestFullDisk is TestFull on a file system that is really full.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 || runtime.GOOS != "linux" {
		t.Skip("not run: needs root on Linux, to mount a small tmpfs")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("not run: mount tmpfs: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	path := filepath.Join(dir, "log")
	j := open(t, path, segmentOf(30))
	write(t, j, lines(0, 10)...)
	ballast := filepath.Join(dir, "ballast")
	fill := func() {
		f, err := os.Create(ballast)
		stagetest.OK(t, err)
		defer f.Close()
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
	}
	next, failures := 10, 0
	for round := range 20 {
		fill()
		for { // what is left of the files' last pages
			if _, err := j.Write(noon, lines(next, next+20)); err != nil {
				failures++
				break
			}
			next += 20
		}
		if err := j.Probe(); err == nil {
			t.Fatal("Probe found a full disk in order")
		}
		if round%2 == 0 {
			closed(t, j)
			j = open(t, path, segmentOf(30))
		}
		remove(t, ballast)
		if err := j.Probe(); err != nil {
			t.Fatalf("Probe with room: %v", err)
		}
		write(t, j, lines(next, next+20)...)
		next += 20
	}
	closed(t, j)
	wantContent(t, path, text(lines(0, next)))
	t.Logf("%d writes failed, %d events", failures, next)
}
