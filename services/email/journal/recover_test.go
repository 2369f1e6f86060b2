package journal

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// crash is a journal and its log around the writing of one batch.
type crash struct {
	before, record string // the segment before it, and what the batch adds to it
	log, lines     string // the same for the log
	batch          []Line
}

// record writes two batches and takes apart what the second one did.
func recordCrash(t *testing.T, dir string) crash {
	t.Helper()
	path := filepath.Join(dir, "log")
	segment := filepath.Join(path+".journal", "00000001.records")
	j := open(t, path)
	write(t, j, lines(0, 2)...)
	c := crash{before: content(t, segment), log: content(t, path), batch: lines(2, 5)}
	write(t, j, c.batch...)
	closed(t, j)
	c.record = strings.TrimPrefix(content(t, segment), c.before)
	c.lines = strings.TrimPrefix(content(t, path), c.log)
	if c.lines != text(c.batch) || c.record[len(c.record)-1] != done {
		t.Fatalf("batch wrote %q and a record ending in %d", c.lines, c.record[len(c.record)-1])
	}
	c.record = c.record[:len(c.record)-1] + string(rune(begun))
	return c
}

// set puts the journal and the log into a state that a crash can leave. The log keeps its inode.
func (c crash) set(t *testing.T, dir, record, log string) {
	t.Helper()
	path := filepath.Join(dir, "log")
	for name, s := range map[string]string{filepath.Join(path+".journal", "00000001.records"): c.before + record, path: log} {
		put(t, name, s)
	}
}

// TestCutRecord cuts the record at each byte: its lines were never begun, so the batch is written
// when it comes again.
func TestCutRecord(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	c := recordCrash(t, dir)
	for cut := range len(c.record) {
		for _, tail := range []string{"", strings.Repeat("\x00", len(c.record)-cut)} { // zeros: power lost
			if tail != "" && strings.Trim(c.record[cut:], "\x00") == "" {
				continue // that is the whole record
			}
			c.set(t, dir, c.record[:cut]+tail, c.log)
			j := open(t, path)
			wantKnown(t, j, 2, 5)
			wantContent(t, path, c.log)
			write(t, j, c.batch...)
			wantKnown(t, j, 5, 6)
			closed(t, j)
			wantContent(t, path, c.log+c.lines)
			j = open(t, path)
			wantKnown(t, j, 5, 6)
			closed(t, j)
			wantContent(t, path, c.log+c.lines)
		}
	}
}

// TestCutLines cuts the lines at each byte, in the log and in the log that was renamed since.
func TestCutLines(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	c := recordCrash(t, dir)
	check := func(t *testing.T, where string) {
		t.Helper()
		j := open(t, path)
		wantKnown(t, j, 5, 6)
		wantContent(t, where, c.log+c.lines)
		write(t, j, lines(0, 6)...)
		closed(t, j)
	}
	for cut := range len(c.lines) + 1 {
		c.set(t, dir, c.record, c.log+c.lines[:cut])
		check(t, path)
		wantContent(t, path, c.log+c.lines+text(lines(5, 6)))

		c.set(t, dir, c.record, c.log+c.lines[:cut]+strings.Repeat("\x00", len(c.lines)-cut))
		check(t, path)
		wantContent(t, path, c.log+c.lines+text(lines(5, 6)))

		c.set(t, dir, c.record, c.log+c.lines[:cut])
		rename(t, path, path+"-20261121")
		check(t, path+"-20261121")
		wantContent(t, path, text(lines(5, 6)))
		rename(t, path+"-20261121", path)
	}
}

// TestMarked: a batch that was done before the crash is not looked for, wherever its lines are now.
func TestMarked(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	c := recordCrash(t, dir)
	c.set(t, dir, c.record[:len(c.record)-1]+string(rune(done)), "")
	j := open(t, path)
	defer closed(t, j)
	wantKnown(t, j, 5, 6)
	wantContent(t, path, "")
}

// TestPowerLost: lines that were in the log, but not yet on the disk, are put back after another
// boot of the machine, wherever the log was cut, and are not looked for after the same boot or
// where the log is no more.
func TestPowerLost(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	c := recordCrash(t, dir)
	record, whole := c.record[:len(c.record)-1]+string(rune(written)), c.log+c.lines
	lose := func(log string) {
		c.set(t, dir, record, log)
		put(t, filepath.Join(path+".journal", "boot"), "another\n")
	}
	check := func(log, want string) {
		t.Helper()
		for range 2 { // the second time nothing is missing
			j := open(t, path)
			wantKnown(t, j, 5, 6)
			wantContent(t, log, want)
			closed(t, j)
		}
	}
	for cut := range len(whole) + 1 {
		for _, tail := range []string{"", strings.Repeat("\x00", len(whole)-cut)} {
			lose(whole[:cut] + tail)
			check(path, whole)
		}
		lose(whole[:cut])
		rename(t, path, path+"-20261121")
		check(path+"-20261121", whole)
		wantContent(t, path, "")
		rename(t, path+"-20261121", path)
	}
	lose("note\n")
	check(path, "note\n")
	c.set(t, dir, record, "") // emptied by somebody
	check(path, "")
	lose(whole)
	remove(t, path)
	check(path, "")
}

// TestSyncBehind: the log is synced while the journal is open, and its last record is then done.
func TestSyncBehind(t *testing.T) {
	j, path := opened(t)
	defer closed(t, j)
	for n := range 3 {
		write(t, j, line(n))
		records := content(t, filepath.Join(path+".journal", "00000001.records"))
		if got := records[len(records)-1]; n == 0 && got != written {
			t.Errorf("the state of a record is %d; want %d", got, written)
		}
	}
	stagetest.Eventually(t, "the log is synced", func() bool {
		records := content(t, filepath.Join(path+".journal", "00000001.records"))
		return records[len(records)-1] == done
	})
}

// TestSyncFails: what a failed sync may have lost is written again before anything else.
func TestSyncFails(t *testing.T) {
	j, path := opened(t)
	write(t, j, lines(0, 3)...)
	put(t, path, text(lines(0, 1))) // the pages that the kernel dropped
	j.mu.Lock()
	j.log.unsure = true
	j.mu.Unlock()
	write(t, j, lines(3, 4)...)
	wantContent(t, path, text(lines(0, 4)))
	closed(t, j)
}

// TestPlaceGone: the unfinished lines' place is no more. Whole lines that are somewhere stay there;
// the others get a place in the log.
func TestPlaceGone(t *testing.T) {
	for name, tc := range map[string]struct {
		arrange func(t *testing.T, path string, c crash, cut int)
		want    func(c crash, cut int) string // the log
	}{
		"deleted": {
			func(t *testing.T, path string, c crash, cut int) { remove(t, path) },
			func(c crash, cut int) string { return c.lines },
		},
		"deleted and made anew": {
			func(t *testing.T, path string, c crash, cut int) { remove(t, path); put(t, path, "note\n") },
			func(c crash, cut int) string { return "note\n" + c.lines },
		},
		"truncated": {
			func(t *testing.T, path string, c crash, cut int) { put(t, path, "") },
			func(c crash, cut int) string { return c.lines },
		},
		"copied and truncated": {
			func(t *testing.T, path string, c crash, cut int) {
				put(t, path+".1", content(t, path))
				put(t, path, "")
			},
			func(c crash, cut int) string { return c.lines[strings.LastIndexByte(c.lines[:cut], '\n')+1:] },
		},
		"somebody wrote there": {
			func(t *testing.T, path string, c crash, cut int) { put(t, path, content(t, path)+"note\n") },
			func(c crash, cut int) string {
				return c.log + c.lines[:cut] + "note\n" + c.lines[strings.LastIndexByte(c.lines[:cut], '\n')+1:]
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "log")
			c := recordCrash(t, dir)
			for cut := range len(c.lines) {
				c.set(t, dir, c.record, c.log+c.lines[:cut])
				tc.arrange(t, path, c, cut)
				j := open(t, path)
				wantKnown(t, j, 5, 6)
				wantContent(t, path, tc.want(c, cut))
				closed(t, j)

				// The new place may be cut short too, and is found again.
				segment := filepath.Join(path+".journal", "00000001.records")
				records := content(t, segment)
				if r := c.before + c.record; len(records) > len(r) {
					put(t, segment, records[:len(records)-1]+string(rune(begun)))
					whole := content(t, path)
					put(t, path, whole[:len(whole)-7])
					closed(t, open(t, path))
					wantContent(t, path, whole)
					// Or not even its record was whole: then the first one
					// counts.
					put(t, segment, records[:len(records)-7])
					j := open(t, path)
					wantKnown(t, j, 5, 6)
					closed(t, j)
				}
				remove(t, path)
			}
		})
	}
}
