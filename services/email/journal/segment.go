package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/milepost/milepost/pkg/stage/killpoint"
)

// segment is the file that records are added to: a header line, then records as in record.go. Its
// events are in memory until there are enough of them to move to ids.db and begin the next segment.
type segment struct {
	path     string
	number   int
	identity string // of the journal
	f        *os.File
	size     int64 // end of the last whole record
	torn     bool  // the file may go on after size; cut that off before adding
	events   map[key]Written
	newest   time.Time
}

const segmentHeader = "milepost-journal 2 %s\n" // identity

func createSegment(path string, number int, identity string) (*segment, error) {
	head := fmt.Sprintf(segmentHeader, identity)
	if err := create(path, []byte(head)); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &segment{
		path: path, number: number, identity: identity, f: f, size: int64(len(head)), events: map[key]Written{}, newest: time.UnixMilli(0),
	}, nil
}

// openSegment reads the segment at path. It drops a record that a crash cut short: its lines were
// never begun. It returns the records after the last one that was marked done. If the last record's
// lines are not known to be in the log, its events are not yet among the segment's.
func openSegment(path string, number int) (s *segment, open []*record, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	s = &segment{path: path, number: number, events: map[key]Written{}, newest: time.UnixMilli(0)}
	rest, ok := s.readHeader(b)
	if !ok {
		return nil, nil, &damagedError{path, "it does not begin with the header of this version, \"milepost-journal 2\""}
	}
	s.size = int64(len(b) - len(rest))
	for len(rest) > 0 {
		r, size, err := decodeRecord(rest)
		if errors.Is(err, errTorn) && len(rest) <= frameHead+maxBody+frameTail {
			s.torn = true
			break
		}
		if err != nil {
			return nil, nil, &damagedError{path, fmt.Sprintf("at byte %d: %v", s.size, err)}
		}
		rest = rest[size:]
		s.size += int64(size)
		r.mark = s.size - 1
		if n := len(open); n > 0 && open[n-1].state == begun {
			s.remember(open[n-1]) // its lines are in the log, or this record has what was missing
		}
		if open = append(open, &r); r.state != begun {
			s.remember(&r)
		}
		if r.state == done {
			open = nil
		}
	}
	if s.f, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		return nil, nil, err
	}
	if err := s.mend(); err != nil {
		return nil, nil, errors.Join(err, s.f.Close())
	}
	return s, open, nil
}

// readHeader reads the first line of b and returns what follows it.
func (s *segment) readHeader(b []byte) (rest []byte, ok bool) {
	head, rest, ok := bytes.Cut(b, []byte("\n"))
	if !ok {
		return nil, false
	}
	if _, err := fmt.Sscanf(string(head)+"\n", segmentHeader, &s.identity); err != nil {
		return nil, false
	}
	printable := strings.IndexFunc(s.identity, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
	return rest, s.identity != "" && printable
}

// remember adds r's events to those whose lines are in the log.
func (s *segment) remember(r *record) {
	for _, e := range r.events {
		if _, ok := s.events[e.key]; !ok {
			s.events[e.key] = Written{SentAt: r.sent, Miles: e.miles}
		}
	}
	if r.newest.After(s.newest) {
		s.newest = r.newest
	}
}

// mend cuts off what a failed write left.
func (s *segment) mend() error {
	if !s.torn {
		return nil
	}
	if err := s.f.Truncate(s.size); err != nil {
		return err
	}
	if err := s.f.Sync(); err != nil {
		return err
	}
	s.torn = false
	return nil
}

// add appends r and waits until the disk has it. After an error r is not in the segment.
func (s *segment) add(r *record) error {
	if err := s.mend(); err != nil {
		return err
	}
	b, err := r.encode()
	if err != nil {
		return err
	}
	s.torn = true
	killpoint.Pass("journal.before-record")
	if killpoint.On {
		if _, err := s.f.WriteAt(b[:len(b)/2], s.size); err != nil {
			return err
		}
		killpoint.Pass("journal.mid-record")
	}
	if _, err := s.f.WriteAt(b, s.size); err != nil {
		return errors.Join(err, s.mend())
	}
	if err := s.f.Sync(); err != nil {
		return errors.Join(err, s.mend())
	}
	killpoint.Pass("journal.after-record")
	s.torn = false
	s.size += int64(len(b))
	r.mark = s.size - 1
	return nil
}

// note writes the state of a record. It does not sync: without it, recovery looks for the lines
// once more.
func (s *segment) note(r *record, state byte) error {
	r.state = state
	_, err := s.f.WriteAt([]byte{state}, r.mark)
	return err
}

// create writes a file with all of its content or not at all, also after a loss of power.
func create(path string, content []byte) error {
	tmp := path + ".tmp"
	err := func() error {
		f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.Write(content); err != nil {
			return err
		}
		return f.Sync()
	}()
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return syncDir(filepath.Dir(path))
}
