package journal

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/milepost/milepost/pkg/stage/killpoint"
)

// roll moves the events of the active segment to ids.db, begins the next segment and forgets the
// segments whose events are all too old. After a failure the active segment stays in use, and the
// next call tries again.
func (j *Journal) roll(now time.Time) {
	err := j.tryRoll(now)
	if err != nil && !j.rollFailed {
		j.o.Log.Warn("journal segment stays in use: the next one cannot be begun", "err", err)
	}
	j.rollFailed = err != nil
}

func (j *Journal) tryRoll(now time.Time) error {
	if err := j.syncLog(); err != nil { // the lines of older segments are not looked for
		return err
	}
	old := j.active
	if err := j.ids.add(old.number, old.events, old.newest, now.Add(-j.o.Keep-forgetMargin)); err != nil {
		return err
	}
	killpoint.Pass("journal.after-seal")
	next, err := createSegment(j.name(old.number+1), old.number+1, old.identity)
	if err != nil {
		return err
	}
	killpoint.Pass("journal.after-next")
	clear(old.events)
	next.events = old.events // it has grown to its size
	j.active = next
	if err := errors.Join(old.f.Close(), j.tidy()); err != nil { // the next Open tidies again
		j.o.Log.Warn("old journal segment not removed", "err", err)
	}
	killpoint.Pass("journal.after-remove")
	return nil
}

// tidy removes the segments before the active one and what a crash left unfinished.
func (j *Journal) tidy() error {
	entries, err := os.ReadDir(j.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		n := segmentNumber(e.Name())
		if old := n > 0 && n < j.active.number; !old && !strings.HasSuffix(e.Name(), ".tmp") {
			continue
		}
		if err := os.Remove(filepath.Join(j.dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
