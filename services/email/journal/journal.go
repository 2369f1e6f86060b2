// Package journal appends lines to a log, exactly one for each event, whenever the process is
// killed.
//
// The log has no key in its lines, so a journal beside it keeps what was written: the log
// "sent_emails" has the folder "sent_emails.journal". Before lines are begun, a record of them is
// on the disk: event IDs, the log's inode, the offset, the exact bytes. The next Open completes the
// missing bytes at that offset of that file, with the time of the first writing. It never
// truncates. So the log itself is synced only once a second, and a loss of power loses no line: the
// records since the last sync complete it. The journal remembers event IDs for Options.Keep and
// does not write a known event again.
//
// The journal has an identity, made once, that names the consumer of its holder, and a lock, so
// that there is one writer.
package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

// Errors that waiting does not fix.
var (
	// ErrPath: the log's path names a folder, a device, a pipe or a link to nothing.
	ErrPath = errors.New("not a file that lines can be appended to")
	// ErrDamaged: the journal holds what no crash leaves behind, so it does not tell what was
	// written.
	ErrDamaged = errors.New("the journal is damaged")
	// ErrClosed: the journal was closed.
	ErrClosed = errors.New("the journal is closed")
)

// Options opens a journal. The zero value of a field means the default it names.
type Options struct {
	Path    string        // required: the log. The journal is the folder Path + ".journal"
	Keep    time.Duration // how long IDs are remembered, from the submission. Default 30 days
	Log     *slog.Logger  // default: slog.Default()
	Standby func()        // called once if another process holds the lock

	// Segment is the number of events after which a new segment begins. Default 16384, about 3
	// MB.
	Segment int
}

// Line is a line to write for an event.
type Line struct {
	ID    string    // event ID
	At    time.Time // submission of the event
	Miles float64   // kept for [Written]
	Text  string    // without its line break
}

// Written is what the journal remembers of an event whose line is in the log.
type Written struct {
	SentAt time.Time // time of writing, to the millisecond
	Miles  float64
}

// Journal is an open journal, held by this process alone. Its methods are safe for concurrent use.
type Journal struct {
	o    Options
	dir  string
	lock *flock.Flock

	mu         sync.Mutex
	log        logFile
	active     *segment      // the events written last
	ids        *ids          // those before them
	last       *record       // in the segment; its lines may not be in the log yet
	fresh      bool          // none of last's lines was begun
	loose      []*record     // in the segment; their lines are in the log, and may not be on the disk yet
	dirty      chan struct{} // loose is not empty
	stop       func()        // ends the goroutine that syncs
	closed     bool
	rollFailed bool // and that was logged
	stats      Stats
}

const (
	lockPoll       = 100 * time.Millisecond
	defaultKeep    = 30 * 24 * time.Hour
	defaultSegment = 16 << 10
	// forgetMargin is how much longer than Keep an ID is remembered, in case the clock is set
	// back.
	forgetMargin = time.Hour
)

// Open waits for the journal's lock until ctx ends, reads the journal and completes the lines that
// the last holder had begun. If that fails, as on a full disk, the journal is open all the same and
// each call tries again. The caller closes it.
//
// Errors: [ErrPath] and [ErrDamaged] stay; any other may pass.
func Open(ctx context.Context, o Options) (*Journal, error) {
	if o.Keep == 0 {
		o.Keep = defaultKeep
	}
	if o.Segment == 0 {
		o.Segment = defaultSegment
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	path, err := resolve(o.Path)
	if err != nil {
		return nil, err
	}
	j := &Journal{o: o, dir: path + ".journal", log: logFile{path: path}, dirty: make(chan struct{}, 1)}
	if err := j.acquire(ctx); err != nil {
		return nil, err
	}
	if err := j.load(); err != nil {
		return nil, errors.Join(err, j.lock.Close())
	}
	j.startSync()
	if err := j.finish(); err != nil {
		o.Log.Warn("lines of the last run are still incomplete", "log", path, "err", err)
	}
	if _, _, err := j.log.current(); err != nil { // makes the log, so that others can follow it
		o.Log.Warn("log not opened yet", "log", path, "err", err)
	}
	return j, nil
}

// Identity is made once for a journal and stays: it names the consumer of the journal's holder.
func (j *Journal) Identity() string { return j.ids.state.Identity }

// Path is the log's path, absolute and without symbolic links.
func (j *Journal) Path() string { return j.log.path }

// TooOld reports whether the journal may have forgotten an event of that submission time. If so,
// writing an unknown event could double its line.
func (j *Journal) TooOld(at, now time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return at.Before(now.Add(-j.o.Keep)) || !at.After(time.UnixMilli(j.ids.state.Floor))
}

// Find returns the events whose lines are in the log, by event ID. It first completes lines that a
// crash or a full disk left incomplete.
func (j *Journal) Find(ids []string) (map[string]Written, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.finish(); err != nil {
		return nil, err
	}
	known := make(map[string]Written, len(ids)) // the caller adds the others
	for _, id := range ids {
		w, ok, err := j.find(keyOf(id))
		if err != nil {
			return nil, fmt.Errorf("look up %s in the journal: %w", id, err)
		}
		if ok {
			known[id] = w
		}
	}
	return known, nil
}

func (j *Journal) find(k key) (Written, bool, error) {
	if w, ok := j.active.events[k]; ok {
		return w, true, nil
	}
	return j.ids.find(k)
}

// Probe returns nil if lines can be written: it completes unfinished ones, opens the log, and
// writes and removes a file of 64 kB in the journal's folder.
func (j *Journal) Probe() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.finish(); err != nil {
		return err
	}
	if err := j.held(); err != nil {
		return err
	}
	if _, _, err := j.log.current(); err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	path := filepath.Join(j.dir, "probe")
	if err := create(path, make([]byte, 64<<10)); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return os.Remove(path)
}

// Stats are figures of an open journal. Counters begin at 0 with [Open].
type Stats struct {
	Events     int   // remembered
	Size       int64 // bytes of the journal's files
	Records    int   // written
	Bytes      int64 // of these records
	Lines      int   // known to be in the log, completed ones included
	Recoveries int   // records whose lines were completed after a crash or an error
	Rotations  int   // times that the log was found renamed or removed, and a new one begun
}

// Stats waits for a write under way.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.stats
	s.Events = len(j.active.events) + j.ids.state.Events
	s.Size = j.active.size + j.ids.size() + int64(len(bootID()))
	s.Rotations = j.log.rotations
	return s
}

// Close hands the journal over to a process that waits for it.
func (j *Journal) Close() error {
	j.stop()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	j.closed = true
	return errors.Join(j.syncLog(), j.active.f.Sync(), j.active.f.Close(), j.ids.db.Close(), j.log.close(), j.lock.Close())
}

// damagedError says which file of a journal is damaged, and how.
type damagedError struct{ path, how string }

func (e *damagedError) Error() string { return fmt.Sprintf("%s: %s: %v", e.path, e.how, ErrDamaged) }

func (e *damagedError) Is(target error) bool { return target == ErrDamaged }
