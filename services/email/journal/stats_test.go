package journal

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// TestStats writes, rotates, seals and recovers, and compares the figures with the files.
func TestStats(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	check := func(j *Journal, want Stats) {
		t.Helper()
		files, err := os.ReadDir(path + ".journal")
		stagetest.OK(t, err)
		for _, f := range files {
			fi, err := f.Info()
			stagetest.OK(t, err)
			want.Size += fi.Size()
		}
		got := j.Stats()
		if want.Bytes = got.Bytes; (got.Bytes > 0) != (got.Records > 0) {
			t.Errorf("%d bytes in %d records", got.Bytes, got.Records)
		}
		if got != want {
			t.Errorf("Stats() = %+v, want %+v", got, want)
		}
	}
	j := open(t, path, segmentOf(3))
	check(j, Stats{})
	write(t, j, lines(0, 2)...)
	check(j, Stats{Events: 2, Records: 1, Lines: 2})
	rename(t, path, path+".1")
	write(t, j, lines(1, 4)...) // of which one is known; seals the segment
	check(j, Stats{Events: 4, Records: 2, Lines: 4, Rotations: 1})
	closed(t, j)

	dir = t.TempDir()
	path = filepath.Join(dir, "log")
	c := recordCrash(t, dir)
	c.set(t, dir, c.record, c.log+c.lines[:5])
	j = open(t, path)
	check(j, Stats{Events: 5, Lines: 3, Recoveries: 1})
	closed(t, j)
}
