package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// noon is when the tests' lines are written.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 123e6, time.UTC)

// id is the nth event ID.
func id(n int) string { return fmt.Sprintf("01930000-0000-7000-8000-%012d", n) }

// line is the nth event's line; its text names the event, so that a log can be counted.
func line(n int) Line {
	return Line{ID: id(n), At: time.Now().Add(-time.Minute), Miles: float64(n) + 0.5, Text: "line " + id(n)}
}

func lines(from, to int) []Line {
	var ls []Line
	for n := from; n < to; n++ {
		ls = append(ls, line(n))
	}
	return ls
}

func text(ls []Line) string {
	var b strings.Builder
	for _, l := range ls {
		b.WriteString(l.Text + "\n")
	}
	return b.String()
}

func open(t *testing.T, path string, with ...func(*Options)) *Journal {
	t.Helper()
	o := Options{Path: path, Log: quiet}
	for _, f := range with {
		f(&o)
	}
	j, err := Open(t.Context(), o)
	if err != nil {
		t.Fatalf("Open(%q): %v", path, err)
	}
	return j
}

// opened opens the journal of a new log at path.
func opened(t *testing.T, with ...func(*Options)) (j *Journal, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "log")
	j = open(t, path, with...)
	t.Cleanup(func() { closed(t, j) })
	return j, path
}

func segmentOf(n int) func(*Options) { return func(o *Options) { o.Segment = n } }

func write(t *testing.T, j *Journal, ls ...Line) []Written {
	t.Helper()
	w, err := j.Write(noon, ls)
	if err != nil {
		t.Fatalf("Write(%d lines): %v", len(ls), err)
	}
	return w
}

func closed(t *testing.T, j *Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

func put(t *testing.T, path, s string) {
	t.Helper()
	stagetest.OK(t, os.WriteFile(path, []byte(s), 0o644))
}

func remove(t *testing.T, path string) {
	t.Helper()
	stagetest.OK(t, os.Remove(path))
}

func rename(t *testing.T, path, to string) {
	t.Helper()
	stagetest.OK(t, os.Rename(path, to))
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	stagetest.OK(t, err)
	return string(b)
}

func wantContent(t *testing.T, path, want string) {
	t.Helper()
	if got := content(t, path); got != want {
		t.Fatalf("%s holds\n%q, want\n%q", filepath.Base(path), got, want)
	}
}

// wantKnown checks that events [0, known) are remembered with what was written, and [known, all)
// are not.
func wantKnown(t *testing.T, j *Journal, known, all int) {
	t.Helper()
	var ids []string
	for n := range all {
		ids = append(ids, id(n))
	}
	got, err := j.Find(ids)
	if err != nil {
		t.Fatalf("Find: %v", err)
	}
	for n := range all {
		w, ok := got[id(n)]
		if ok != (n < known) {
			t.Fatalf("Find knows event %d: %v, want %v", n, ok, n < known)
		}
		if ok && (!w.SentAt.Equal(noon) || w.Miles != line(n).Miles) {
			t.Fatalf("event %d was written at %v with %v miles, want %v and %v", n, w.SentAt, w.Miles, noon, line(n).Miles)
		}
	}
}

func TestWriteOnce(t *testing.T) {
	j, path := opened(t)
	first := write(t, j, lines(0, 3)...)
	again, err := j.Write(noon.Add(time.Hour), []Line{line(3), line(1), line(3), line(0)})
	stagetest.OK(t, err)
	if again[1] != first[1] || again[3] != first[0] {
		t.Errorf("known events got %v and %v, want what was written first, %v and %v", again[1], again[3], first[1], first[0])
	}
	if again[0] != again[2] || !again[0].SentAt.Equal(noon.Add(time.Hour)) {
		t.Errorf("an event twice in one batch got %v and %v, want the same, sent at %v", again[0], again[2], noon.Add(time.Hour))
	}
	wantContent(t, path, text(lines(0, 4)))
	identity := j.Identity()
	closed(t, j)

	j = open(t, path)
	defer closed(t, j)
	if j.Identity() != identity {
		t.Errorf("identity %q after reopening, want %q", j.Identity(), identity)
	}
	if n := j.Stats().Events; n != 4 {
		t.Errorf("Stats().Events = %d, want 4", n)
	}
	write(t, j, lines(0, 4)...)
	wantContent(t, path, text(lines(0, 4)))
}

func TestEventIDsOfAnyForm(t *testing.T) {
	j, path := opened(t, segmentOf(4))
	id := "0193abcd-0000-7000-8000-00000000000a"
	ids := []string{"", "1", "ev-1", strings.ToUpper(id), id, "{" + id + "}", "urn:uuid:" + id, strings.Repeat("x", 5000)}
	for range 2 {
		for _, id := range ids {
			write(t, j, Line{ID: id, At: time.Now(), Text: "x"})
		}
	}
	if got := strings.Count(content(t, path), "\n"); got != len(ids) {
		t.Errorf("%d lines for %d different IDs, each written twice", got, len(ids))
	}
}

func TestLineBreakIsRefused(t *testing.T) {
	j, _ := opened(t)
	for _, s := range []string{"a\nb", "a\r", "\n"} {
		if _, err := j.Write(noon, []Line{{ID: id(1), Text: s}}); err == nil {
			t.Errorf("Write(%q) was accepted", s)
		}
	}
	wantKnown(t, j, 0, 2)
}

// TestForeignEnd: what somebody else left without a line break does not swallow our first line.
func TestForeignEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	put(t, path, "note")
	j := open(t, path)
	defer closed(t, j)
	write(t, j, line(0))
	write(t, j, line(1))
	wantContent(t, path, "note\n"+text(lines(0, 2)))
}

func TestRename(t *testing.T) {
	j, path := opened(t)
	write(t, j, lines(0, 2)...)
	rename(t, path, path+".1")
	write(t, j, lines(2, 4)...)
	wantContent(t, path+".1", text(lines(0, 2)))
	wantContent(t, path, text(lines(2, 4)))

	rename(t, path, path+".2") // logrotate's "create"
	stagetest.OK(t, os.WriteFile(path, nil, 0o644))
	write(t, j, line(4))
	wantContent(t, path, text(lines(4, 5)))

	remove(t, path)
	write(t, j, line(5))
	wantContent(t, path, text(lines(5, 6)))
	wantKnown(t, j, 6, 8)
}

func TestTruncatedLog(t *testing.T) {
	j, path := opened(t)
	write(t, j, lines(0, 2)...)
	stagetest.OK(t, os.Truncate(path, 0))
	write(t, j, lines(2, 4)...)
	wantContent(t, path, text(lines(2, 4))) // no hole before them
}

func TestSegments(t *testing.T) {
	j, path := opened(t, segmentOf(10))
	for n := 0; n < 95; n += 3 {
		write(t, j, lines(n, n+3)...)
	}
	wantKnown(t, j, 96, 120)
	closed(t, j)
	j = open(t, path, segmentOf(10))
	defer closed(t, j)
	wantKnown(t, j, 96, 120)
	if n := j.ids.state.Sealed; n != 8 { // a batch of 3 fills a segment of 10 with 12
		t.Errorf("%d segments in ids.db, want 8", n)
	}
	if n := j.Stats().Events; n != 96 {
		t.Errorf("Stats().Events = %d, want 96", n)
	}
	write(t, j, lines(0, 96)...)
	wantContent(t, path, text(lines(0, 96)))
}

// TestOrder: events are known whatever the order of their IDs, which need not grow from one segment
// to the next.
func TestOrder(t *testing.T) {
	j, path := opened(t, segmentOf(4))
	order := []int{50, 51, 90, 53, 10, 11, 12, 13, 60, 61, 62, 63, 0, 99, 1, 2, 30, 31, 32, 33}
	known := func() {
		t.Helper()
		for _, n := range order {
			if found, err := j.Find([]string{id(n), id(n + 1000)}); err != nil || len(found) != 1 || found[id(n)].Miles != line(n).Miles {
				t.Errorf("Find(%d and one that is unknown) = %v, %v", n, found, err)
			}
		}
	}
	for _, n := range order {
		write(t, j, line(n))
	}
	known()
	closed(t, j)
	j = open(t, path, segmentOf(4))
	defer closed(t, j)
	if n := j.ids.state.Sealed; n != 5 {
		t.Errorf("%d segments in ids.db, want 5", n)
	}
	known()
}

// TestForget: segments whose events are older than Keep go, and what they may have held is too old
// from then on, even if Keep is longer later.
func TestForget(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	old := time.Now().Add(-48 * time.Hour)
	short := func(o *Options) { o.Segment, o.Keep = 4, 24*time.Hour }
	j := open(t, path, short)
	for n := range 12 {
		l := line(n)
		if n < 6 {
			l.At = old.Add(time.Duration(n) * time.Second)
		}
		write(t, j, l)
	}
	// Segments: 0-3 all old, 4-7 not all.
	got, err := j.Find([]string{id(0), id(3), id(4), id(7)})
	if err != nil || len(got) != 2 {
		t.Errorf("Find = %v, %v; want events 4 and 7", got, err)
	}
	files, err := filepath.Glob(filepath.Join(path+".journal", "*"))
	if err != nil || len(files) != 4 { // lock, IDs, records
		t.Errorf("journal holds %q (%v), want 4 files", files, err)
	}
	closed(t, j)

	j = open(t, path)
	defer closed(t, j)
	floor := old.Add(3 * time.Second)
	for at, want := range map[time.Time]bool{
		floor.Add(-time.Second):                  true,
		floor.Truncate(time.Millisecond):         true,
		floor.Add(time.Second):                   false,
		time.Now().Add(-29 * 24 * time.Hour):     true, // before the floor
		time.Now().Add(-31 * 24 * time.Hour):     true,
		time.Now():                               false,
		{}:                                       true,
		time.Now().Add(365 * 24 * time.Hour):     false,
		time.Now().Add(-47 * time.Hour):          false,
		time.Now().Add(-47 * time.Hour).Round(0): false,
	} {
		if got := j.TooOld(at, time.Now()); got != want {
			t.Errorf("TooOld(%v) = %v, want %v", at, got, want)
		}
	}
}

func TestPaths(t *testing.T) {
	dir := t.TempDir()
	stagetest.OK(t, os.Symlink(filepath.Join(dir, "nowhere"), filepath.Join(dir, "dangling")))
	for _, path := range []string{dir, filepath.Join(dir, "dangling"), os.DevNull} {
		if _, err := Open(t.Context(), Options{Path: path, Log: quiet}); !errors.Is(err, ErrPath) {
			t.Errorf("Open(%q) = %v, want %v", path, err, ErrPath)
		}
	}
	if _, err := Open(t.Context(), Options{Path: filepath.Join(dir, "none", "log"), Log: quiet}); err == nil || errors.Is(err, ErrPath) {
		t.Errorf("Open in a folder that is not there: %v, want an error that may pass", err)
	}

	// One log, one journal, whatever name leads to it.
	path := filepath.Join(dir, "log")
	j := open(t, path)
	write(t, j, line(0))
	closed(t, j)
	link := filepath.Join(dir, "link")
	stagetest.OK(t, os.Symlink(path, link))
	j = open(t, link)
	defer closed(t, j)
	wantKnown(t, j, 1, 2)
}

func TestJournalRemovedInUse(t *testing.T) {
	j, path := opened(t)
	write(t, j, line(0))
	rename(t, path+".journal", path+".aside")
	if _, err := j.Write(noon, lines(1, 2)); err == nil {
		t.Error("Write without the journal's folder succeeded")
	}
	if err := j.Probe(); err == nil {
		t.Error("Probe without the journal's folder succeeded")
	}
	rename(t, path+".aside", path+".journal")
	write(t, j, line(1))
	wantContent(t, path, text(lines(0, 2)))
}

// A copy of what was removed is as good, also of the log; a copy of an older state is not.
func TestJournalPutBack(t *testing.T) {
	j, path := opened(t, segmentOf(3))
	write(t, j, lines(0, 2)...)
	back := func(what string) {
		t.Helper()
		kept := filepath.Join(t.TempDir(), "kept")
		stagetest.OK(t, os.CopyFS(kept, os.DirFS(what)))
		stagetest.OK(t, os.RemoveAll(what))
		if err := j.Probe(); err == nil {
			t.Errorf("Probe without %s succeeded", what)
		}
		stagetest.OK(t, os.CopyFS(what, os.DirFS(kept)))
		if err := j.Probe(); err != nil {
			t.Errorf("Probe after %s was put back: %v", what, err)
		}
	}
	old := filepath.Join(t.TempDir(), "old")
	stagetest.OK(t, os.CopyFS(old, os.DirFS(path+".journal")))
	back(path + ".journal")
	write(t, j, lines(2, 5)...) // into the next segment
	back(path + ".journal")
	write(t, j, line(5))
	back(filepath.Dir(path))
	write(t, j, line(6))
	wantContent(t, path, text(lines(0, 7)))
	wantKnown(t, j, 7, 8)

	rename(t, path+".journal", path+".aside")
	stagetest.OK(t, os.CopyFS(path+".journal", os.DirFS(old)))
	if err := j.Probe(); err == nil {
		t.Error("Probe with an older journal succeeded")
	}
	stagetest.OK(t, os.RemoveAll(path+".journal"))
	rename(t, path+".aside", path+".journal")
	write(t, j, line(7))
	closed(t, j)
	again := open(t, path)
	defer closed(t, again)
	wantKnown(t, again, 8, 9)
}

// flipAfter flips a bit n bytes after each place of k, since bbolt leaves copies that it does not
// use.
func flipAfter(k key, n int) func(b []byte) []byte {
	return func(b []byte) []byte {
		for i := 0; i+n < len(b); i++ {
			if bytes.HasPrefix(b[i:], k[:]) {
				b[i+n] ^= 1
			}
		}
		return b
	}
}

func TestDamage(t *testing.T) {
	const records = "00000003.records"
	file := func(name string, change func(b []byte) []byte) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			name := filepath.Join(dir, name)
			put(t, name, string(change([]byte(content(t, name)))))
		}
	}
	gone := func(name string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) { remove(t, filepath.Join(dir, name)) }
	}
	for name, hurt := range map[string]func(t *testing.T, dir string){
		"bit in the middle": file(records, func(b []byte) []byte { b[bytes.IndexByte(b, '\n')+40] ^= 1; return b }),
		"header":            file(records, func([]byte) []byte { return []byte("hello\n") }),
		"earlier version":   file(records, func(b []byte) []byte { return bytes.Replace(b, []byte("l 2 "), []byte("l 1 "), 1) }),
		"later version":     file(records, func(b []byte) []byte { return bytes.Replace(b, []byte("l 2 "), []byte("l 3 "), 1) }),
		"empty":             file(records, func([]byte) []byte { return nil }),
		"records gone":      gone(records),
		"bit in an ID":      file(idsName, flipAfter(keyOf(id(5)), 15)),
		"bit in its time":   file(idsName, flipAfter(keyOf(id(7)), 16)),
		"IDs cut":           file(idsName, func(b []byte) []byte { return b[:len(b)/2] }),
		"IDs empty":         file(idsName, func(b []byte) []byte { return make([]byte, len(b)) }),
		"IDs gone":          gone(idsName),
		"IDs before the last segment was added, as from a backup": func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, idsName), content(t, strings.TrimSuffix(dir, ".journal")+".backup"))
		},
		"IDs of another journal": func(t *testing.T, dir string) {
			other := filepath.Join(t.TempDir(), "log")
			j := open(t, other, segmentOf(4))
			write(t, j, lines(0, 4)...)
			write(t, j, lines(4, 8)...)
			closed(t, j)
			put(t, filepath.Join(dir, idsName), content(t, filepath.Join(other+".journal", idsName)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			j, path := opened(t, segmentOf(4))
			for n := range 11 {
				if n == 7 { // one segment is in ids.db, and the next is nearly full
					put(t, path+".backup", content(t, filepath.Join(path+".journal", idsName)))
				}
				write(t, j, line(n))
			}
			closed(t, j)
			hurt(t, path+".journal")
			_, err := Open(t.Context(), Options{Path: path, Log: quiet})
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("Open = %v, want %v", err, ErrDamaged)
			}
			wantContent(t, path, text(lines(0, 11)))
		})
	}
}

func TestSegmentNumber(t *testing.T) {
	for name, want := range map[string]int{
		"00000001.records": 1, "123456789.records": 123456789, "1.records": 0, "lock": 0, "00000001.records.tmp": 0,
		"-0000001.records": 0, "00000000.records": 0, "00000001.": 0, "00000001.ids": 0, "probe": 0,
	} {
		if got := segmentNumber(name); got != want {
			t.Errorf("segmentNumber(%q) = %d, want %d", name, got, want)
		}
	}
}
