package journal

import (
	"fmt"
	"strings"
	"time"

	"github.com/milepost/milepost/pkg/stage/killpoint"
)

// Write appends the lines to the log in this order, without those of known events, and returns once
// they are there, and on the disk in the journal. sent is the time of writing that the lines show.
// Write returns for each line what was written for its event, now or earlier. After an error the
// lines may be in the log all the same, now or later; the next Find that succeeds tells.
func (j *Journal) Write(sent time.Time, lines []Line) ([]Written, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.finish(); err != nil {
		return nil, err
	}
	if err := j.held(); err != nil {
		return nil, err
	}
	sent = sent.Truncate(time.Millisecond)
	r := &record{sent: sent, newest: time.UnixMilli(0)}
	out := make([]Written, len(lines))
	seen := make(map[key]Written, len(lines))
	for i, l := range lines {
		if strings.ContainsAny(l.Text, "\r\n") {
			return nil, fmt.Errorf("line of event %s has a line break", l.ID)
		}
		k := keyOf(l.ID)
		w, known := seen[k]
		if !known {
			var err error
			if w, known, err = j.find(k); err != nil {
				return nil, fmt.Errorf("look up %s in the journal: %w", l.ID, err)
			}
		}
		if !known {
			w = Written{SentAt: sent, Miles: l.Miles}
			seen[k] = w
			r.events = append(r.events, event{k, l.Miles})
			r.lines = append(append(r.lines, l.Text...), '\n')
			if l.At.After(r.newest) {
				r.newest = l.At
			}
		}
		out[i] = w
	}
	if len(r.events) == 0 {
		return out, nil
	}
	if err := j.begin(r); err != nil {
		return nil, err
	}
	if err := j.finish(); err != nil {
		return nil, err
	}
	return out, nil
}

// begin gives r's lines their place at the end of the log and journals r.
func (j *Journal) begin(r *record) error {
	id, size, err := j.log.current()
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	lines := r.lines
	if mid, err := j.log.needsBreak(size); err != nil {
		return fmt.Errorf("read log: %w", err)
	} else if mid {
		lines = append([]byte("\n"), lines...)
	}
	placed := &record{file: id, offset: size, sent: r.sent, newest: r.newest, events: r.events, lines: lines}
	before := j.active.size
	if err := j.active.add(placed); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	j.stats.Records++
	j.stats.Bytes += j.active.size - before
	j.last, j.fresh = placed, true
	return nil
}

// finish brings the lines of the last record into the log, and begins the next segment if it is
// time.
func (j *Journal) finish() error {
	if j.closed {
		return ErrClosed
	}
	if err := j.restore(); err != nil {
		return fmt.Errorf("write log: %w", err)
	}
	for j.last != nil {
		var rest []byte
		var err error
		if j.fresh {
			j.fresh = false
			err = j.log.append(j.last.lines)
		} else if rest, err = j.log.complete(j.last); err == nil {
			j.stats.Recoveries++
		}
		if err != nil {
			return fmt.Errorf("write log: %w", err)
		}
		if rest == nil {
			break
		}
		j.o.Log.Warn("the place of unfinished lines is gone; they go to the end of the log", "log", j.log.path, "events", len(j.last.events))
		r := *j.last
		r.lines = rest
		if err := j.begin(&r); err != nil {
			return err
		}
	}
	if j.last != nil {
		j.active.remember(j.last)
		j.stats.Lines += len(j.last.events)
		if err := j.active.note(j.last, written); err != nil { // recovery would look for the lines once more
			j.o.Log.Warn("journal's mark not written", "err", err)
		}
		j.loose = append(j.loose, j.last)
		j.wakeSync()
		j.last = nil
		killpoint.Pass("journal.after-mark")
	}
	if len(j.active.events) >= j.o.Segment {
		j.roll(time.Now())
	}
	return nil
}
