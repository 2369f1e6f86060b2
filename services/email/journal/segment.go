package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"
)

// segment is the file that records are added to: a header line and records, see record.go. What it has of each event is
// in memory; when it has enough of them it is sealed and the next one begins.
//
//	milepost-journal 1 <identity> <floor, Unix ms>\n
//
// The floor is the newest submission among the events that were forgotten: an unknown event that is not newer may have
// been written once.
type segment struct {
	path   string
	number int
	f      *os.File
	size   int64 // end of the last whole record
	torn   bool  // the file may go on after size; nothing is added before that is cut off
	events map[key]Written
	newest time.Time
}

const segmentHeader = "milepost-journal 1 %s %d\n"

// createSegment makes an empty segment.
func createSegment(path string, number int, identity string, floor time.Time) (*segment, error) {
	head := fmt.Sprintf(segmentHeader, identity, floor.UnixMilli())
	if err := create(path, []byte(head)); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &segment{path: path, number: number, f: f, size: int64(len(head)), events: map[key]Written{}, newest: floor}, nil
}

// openSegment reads the segment at path. A record that a crash cut short is dropped: its lines were never begun. The
// last record is returned if its lines were not marked done; its events are not among the segment's yet.
func openSegment(path string, number int) (s *segment, identity string, floor time.Time, last *record, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, "", floor, nil, err
	}
	head, rest, ok := bytes.Cut(b, []byte("\n"))
	var ms int64
	if !ok {
		return nil, "", floor, nil, &damagedError{path, 0, "no header"}
	}
	if _, err := fmt.Sscanf(string(head)+"\n", segmentHeader, &identity, &ms); err != nil || !fieldsOnly(identity) {
		return nil, "", floor, nil, &damagedError{path, 0, "no header"}
	}
	floor = time.UnixMilli(ms)
	s = &segment{path: path, number: number, size: int64(len(head) + 1), events: map[key]Written{}, newest: floor}
	for len(rest) > 0 {
		r, isDone, size, err := decodeRecord(rest)
		if errors.Is(err, errTorn) && len(rest) <= frameHead+maxBody+frameTail {
			s.torn = true
			break
		}
		if err != nil {
			return nil, "", floor, nil, &damagedError{path, s.size, err.Error()}
		}
		rest = rest[size:]
		s.size += int64(size)
		if last != nil {
			s.remember(last) // the next record is not written before this one's lines are, or has what is missing of them
		}
		if last = &r; isDone {
			s.remember(last)
			last = nil
		}
	}
	if s.f, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		return nil, "", floor, nil, err
	}
	if err := s.mend(); err != nil {
		_ = s.f.Close()
		return nil, "", floor, nil, err
	}
	return s, identity, floor, last, nil
}

// remember adds r's events to those that are written.
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
	killPoint("journal.before-record")
	if killing {
		if _, err := s.f.WriteAt(b[:len(b)/2], s.size); err != nil {
			return err
		}
		killPoint("journal.mid-record")
	}
	if _, err := s.f.WriteAt(b, s.size); err != nil {
		return errors.Join(err, s.mend())
	}
	if err := s.f.Sync(); err != nil {
		return errors.Join(err, s.mend())
	}
	killPoint("journal.after-record")
	s.torn = false
	s.size += int64(len(b))
	return nil
}

// mark notes that the lines of the last record are on the disk. The mark itself need not be there after a loss of power:
// then its lines are looked for once more.
func (s *segment) mark() error {
	_, err := s.f.WriteAt([]byte{done}, s.size-1)
	return err
}
