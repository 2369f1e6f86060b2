// Package journal appends lines to a log, exactly one for each event, whenever the process is killed.
//
// The log has no key in its lines, so what was written is kept beside it: the log "sent_emails" has a journal, the folder
// "sent_emails.journal". Before lines are begun, a record of them (event IDs, the file's identity, the offset, the exact
// bytes) is on the disk. Whoever opens the journal next completes what is missing of them at that offset of that file,
// with the time of the first writing, and without truncating anything. Event IDs are remembered for Options.Keep, and an
// event that is known is not written again.
//
// The journal has an identity, made once, that names the consumer of whoever holds it, and a lock, so that there are
// never two writers.
package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/uuid"
)

// Errors that waiting does not mend.
var (
	// ErrPath: the log cannot be what its path names (a folder, a device, a pipe, a link to nothing).
	ErrPath = errors.New("not a file that lines can be appended to")
	// ErrDamaged: the journal holds what no crash leaves behind. Without it nobody knows what was written.
	ErrDamaged = errors.New("the journal is damaged")
	// ErrClosed: the journal was closed.
	ErrClosed = errors.New("the journal is closed")
)

// Options opens a journal. The zero value of a field means the default it names.
type Options struct {
	Path    string        // required: the log. The journal is Path + ".journal", a folder
	Keep    time.Duration // how long event IDs are remembered, from the submission of the event. Default 30 days
	Log     *slog.Logger  // default: slog.Default()
	Standby func()        // called once if another process holds the lock

	// Segment is the number of events after which a segment is sealed. Default 16384, about 3 MB.
	Segment int
}

// Line is a line to write for an event.
type Line struct {
	ID    string    // event ID
	At    time.Time // submission of the event
	Miles float64   // kept for [Written]
	Text  string    // without its line break
}

// Written is what is remembered of an event whose line is in the log.
type Written struct {
	SentAt time.Time // time of writing, to the millisecond
	Miles  float64
}

// Journal is an open journal, held by this process alone. Its methods are safe for concurrent use.
type Journal struct {
	o        Options
	dir      string
	identity string
	lock     *flock.Flock

	mu       sync.Mutex
	log      logFile
	active   *segment
	sealed   []*sealed // oldest first
	floor    time.Time
	last     *record // journaled, and its lines are not known to be in the log
	fresh    bool    // none of last's lines was begun
	closed   bool
	sealFail bool // sealing failed and was logged
	stats    Stats
}

const (
	lockPoll       = 100 * time.Millisecond
	defaultKeep    = 30 * 24 * time.Hour
	defaultSegment = 16 << 10
	// forgetMargin is how much longer than Keep an ID is remembered, in case the clock is set back.
	forgetMargin = time.Hour
)

// Open waits for the journal's lock until ctx ends, reads the journal and completes the lines that the last holder had
// begun. If that fails (the disk is full), the journal is open and tries again with each call. The caller closes it.
//
// Errors: [ErrPath] and [ErrDamaged]; anything else may pass.
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
	j := &Journal{o: o, dir: path + ".journal", log: logFile{path: path}}
	if err := j.acquire(ctx); err != nil {
		return nil, err
	}
	if err := j.load(); err != nil {
		return nil, errors.Join(err, j.lock.Close())
	}
	if err := j.finish(); err != nil {
		o.Log.Warn("lines of the last run are still to be completed", "log", path, "err", err)
	}
	if _, _, err := j.log.current(); err != nil { // so that it is there to be followed
		o.Log.Warn("log not opened yet", "log", path, "err", err)
	}
	return j, nil
}

// resolve follows symbolic links, so that one log has one journal whatever it is called.
func resolve(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, lerr := os.Lstat(path); lerr == nil {
			return "", fmt.Errorf("%q is a symbolic link to nothing: %w", path, ErrPath)
		}
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return "", err
		}
		return filepath.Join(dir, filepath.Base(path)), nil
	}
	if err != nil {
		return "", err
	}
	fi, err := os.Stat(real)
	if err != nil {
		return "", err
	}
	if !fi.Mode().IsRegular() {
		return "", &notRegularError{path}
	}
	return real, nil
}

// acquire makes the folder and takes its lock.
func (j *Journal) acquire(ctx context.Context) error {
	if err := os.Mkdir(j.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	path := filepath.Join(j.dir, "lock")
	told := false
	for {
		l := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
		got, err := l.TryLock()
		if got {
			j.lock = l
			if err = j.held(); err == nil {
				return nil
			}
			j.lock = nil
		}
		if cerr := l.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("lock journal: %w", err)
		}
		if !told && j.o.Standby != nil {
			told = true
			j.o.Standby()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// held checks that the lock we hold is the one that others would take: the folder was not removed or replaced.
func (j *Journal) held() error {
	ours, err := j.lock.Stat()
	if err != nil {
		return err
	}
	theirs, err := os.Stat(filepath.Join(j.dir, "lock"))
	if err != nil || !os.SameFile(ours, theirs) {
		return fmt.Errorf("%s was removed or replaced while in use; put it back, or restart", j.dir)
	}
	return nil
}

// load reads the segments. Of two that follow each other the earlier one is sealed first, then the later one is made,
// then the records of the earlier one are removed; load ends whatever of that a crash cut short.
func (j *Journal) load() error {
	entries, err := os.ReadDir(j.dir)
	if err != nil {
		return err
	}
	var active int
	var ids []int
	for _, e := range entries {
		switch n, kind := parseName(e.Name()); kind {
		case "records":
			active = max(active, n)
		case "ids":
			ids = append(ids, n)
		}
	}
	if active == 0 {
		if len(ids) > 0 {
			return &damagedError{j.dir, 0, "the segment being written is missing"}
		}
		j.identity = "journal-" + uuid.NewString()
		j.active, err = createSegment(j.name(1, "records"), 1, j.identity, time.UnixMilli(0))
		return err
	}
	var last *record
	if j.active, j.identity, j.floor, last, err = openSegment(j.name(active, "records"), active); err != nil {
		return err
	}
	j.last = last
	if err := j.tidy(entries); err != nil {
		return errors.Join(err, j.active.f.Close())
	}
	slices.Sort(ids)
	for _, n := range ids {
		if n >= active {
			continue
		}
		s, identity, err := openSealed(j.name(n, "ids"))
		if err == nil && identity != j.identity {
			err = &damagedError{s.path, 0, "belongs to the journal " + identity}
		}
		if err != nil {
			return errors.Join(err, j.active.f.Close())
		}
		j.sealed = s.after(j.sealed)
	}
	return nil
}

// tidy removes what an interrupted seal left, beside the active segment: temporary files, records that were sealed,
// IDs that were sealed from the records that are still being written.
func (j *Journal) tidy(entries []os.DirEntry) error {
	for _, e := range entries {
		n, kind := parseName(e.Name())
		switch {
		case kind == "records" && n < j.active.number:
			if _, err := os.Stat(j.name(n, "ids")); err != nil {
				return &damagedError{j.name(n, "ids"), 0, "missing"}
			}
		case kind == "ids" && n >= j.active.number, strings.HasSuffix(e.Name(), ".tmp"):
		default:
			continue
		}
		if err := os.Remove(filepath.Join(j.dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (j *Journal) name(n int, kind string) string {
	return filepath.Join(j.dir, fmt.Sprintf("%08d.%s", n, kind))
}

// parseName is the reverse of name; kind is "" for other names.
func parseName(name string) (n int, kind string) {
	number, kind, _ := strings.Cut(name, ".")
	n, err := strconv.Atoi(number)
	if err != nil || n <= 0 || fmt.Sprintf("%08d", n) != number {
		return 0, ""
	}
	return n, kind
}

// Identity is made once for a journal and stays: it names the consumer of whoever holds the journal.
func (j *Journal) Identity() string { return j.identity }

// Path is the log's path, absolute and without symbolic links.
func (j *Journal) Path() string { return j.log.path }

// TooOld reports whether an event of that submission time that the journal does not know may have been forgotten, so
// that writing it might double its line.
func (j *Journal) TooOld(at, now time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return at.Before(now.Add(-j.o.Keep)) || !at.After(j.floor)
}

// Find returns those of the events whose lines are in the log, by event ID. Lines that a crash or a full disk left
// incomplete are completed first.
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
	for _, s := range slices.Backward(j.sealed) {
		if bytes.Compare(k[:], s.highest[:]) > 0 {
			break // as nearly every new event: event IDs grow with time
		}
		if w, ok, err := s.find(k); ok || err != nil {
			return w, ok, err
		}
	}
	return Written{}, false, nil
}

// Write appends the lines to the log, in this order, those of events that are known left out, and returns once they are
// on the disk. sent is the time of writing that the lines show. It returns what was written for each line's event, now
// or earlier. After an error some or all of the lines may be in the log, now or later; Find tells once it succeeds.
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

// finish sees to it that the lines of the last record are in the log.
func (j *Journal) finish() error {
	if j.closed {
		return ErrClosed
	}
	for j.last != nil {
		var rest []byte
		var err error
		if j.fresh {
			j.fresh = false
			err = j.log.append(j.last.lines)
		} else {
			if rest, err = j.log.complete(j.last); err == nil {
				j.stats.Recoveries++
			}
		}
		if err != nil {
			return fmt.Errorf("write log: %w", err)
		}
		if rest == nil {
			break
		}
		j.o.Log.Warn("the place of unfinished lines is gone; they get a new one", "log", j.log.path, "events", len(j.last.events))
		r := *j.last
		r.lines = rest
		if err := j.begin(&r); err != nil {
			return err
		}
	}
	if j.last == nil {
		return nil
	}
	j.active.remember(j.last)
	j.stats.Lines += len(j.last.events)
	if err := j.active.mark(); err != nil {
		j.o.Log.Warn("journal's mark not written", "err", err) // costs a look at the log after a crash
	}
	j.last = nil
	killPoint("journal.after-mark")
	if len(j.active.events) >= j.o.Segment {
		j.roll(time.Now())
	}
	return nil
}

// roll seals the active segment, begins the next one and forgets the segments whose events are all too old. A failure
// leaves the active segment in use, to be tried again.
func (j *Journal) roll(now time.Time) {
	err := j.tryRoll(now)
	if err != nil && !j.sealFail {
		j.o.Log.Warn("journal segment not sealed; goes on in the old one", "err", err)
	}
	j.sealFail = err != nil
}

func (j *Journal) tryRoll(now time.Time) error {
	old := j.active
	s, err := seal(j.name(old.number, "ids"), j.identity, old.events, old.newest)
	if err != nil {
		return err
	}
	killPoint("journal.after-seal")
	floor, keep := j.floor, s.after(slices.Clone(j.sealed))
	limit := now.Add(-j.o.Keep - forgetMargin)
	var forgotten []*sealed
	keep = slices.DeleteFunc(keep, func(s *sealed) bool {
		if !s.newest.Before(limit) {
			return false
		}
		forgotten = append(forgotten, s)
		if s.newest.After(floor) {
			floor = s.newest
		}
		return true
	})
	next, err := createSegment(j.name(old.number+1, "records"), old.number+1, j.identity, floor)
	if err != nil {
		return err
	}
	killPoint("journal.after-next")
	clear(old.events)
	next.events = old.events // it has grown to its size
	j.active, j.sealed, j.floor = next, keep, floor
	// From here on the old records are not needed, and what is left of them is removed by the next Open.
	errs := []error{old.f.Close(), os.Remove(old.path)}
	for _, s := range forgotten {
		errs = append(errs, os.Remove(s.path))
	}
	if err := errors.Join(errs...); err != nil {
		j.o.Log.Warn("old journal segment not removed", "err", err)
	}
	killPoint("journal.after-remove")
	return nil
}

// Probe reports whether lines can be written: it completes unfinished ones, opens the log and writes a file of 64 kB
// beside the journal's, which it removes again.
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

// Events is the number of events remembered.
func (j *Journal) Events() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.events()
}

func (j *Journal) events() int {
	n := len(j.active.events)
	for _, s := range j.sealed {
		n += s.count
	}
	return n
}

// Close gives the journal up to whoever waits for it.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	j.closed = true
	return errors.Join(j.active.f.Sync(), j.active.f.Close(), j.log.close(), j.lock.Close())
}

// damagedError says where a journal is damaged.
type damagedError struct {
	path   string
	offset int64
	what   string
}

func (e *damagedError) Error() string {
	return fmt.Sprintf("%s: at byte %d: %s: %v", e.path, e.offset, e.what, ErrDamaged)
}

func (e *damagedError) Is(target error) bool { return target == ErrDamaged }
