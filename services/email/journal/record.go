package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"
)

// A record is on the disk before its lines are begun. Integers are big-endian:
//
//	uint32  length of the body
//	uint32  CRC-32C of the body
//	body:   uint64   inode of the log file the lines go to
//	        int64    offset in it
//	        int64    time of writing, Unix ms
//	        int64    newest submission, Unix ms
//	        uint32   number of events
//	        events:  16 bytes key, float64 miles, each
//	        lines:   the exact bytes, to the end of the body
//	uint8   0: lines begun, 2: lines are in the log, 1: the disk has the lines of this record
//	        and of all before it. Not part of the checksum
type record struct {
	file   uint64
	offset int64
	sent   time.Time // to the millisecond
	newest time.Time
	events []event
	lines  []byte

	state byte  // as it is in the segment
	mark  int64 // where the state is in the segment
}

type event struct {
	key   key
	miles float64
}

const (
	frameHead = 8
	frameTail = 1
	bodyHead  = 8 + 8 + 8 + 8 + 4
	eventSize = 16 + 8
	maxBody   = 4 << 20

	begun, done, written = 0, 1, 2
)

var (
	errTorn    = errors.New("record is cut short")
	errGarbage = errors.New("record does not agree with its checksum")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode returns r as it is on disk while its lines are begun. It fails if r is too long.
func (r *record) encode() ([]byte, error) {
	body := bodyHead + len(r.events)*eventSize + len(r.lines)
	if body > maxBody {
		return nil, fmt.Errorf("record of %d bytes is longer than %d", body, maxBody)
	}
	b := make([]byte, frameHead, frameHead+body+frameTail)
	b = binary.BigEndian.AppendUint64(b, r.file)
	b = binary.BigEndian.AppendUint64(b, uint64(r.offset))
	b = binary.BigEndian.AppendUint64(b, uint64(r.sent.UnixMilli()))
	b = binary.BigEndian.AppendUint64(b, uint64(r.newest.UnixMilli()))
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.events)))
	for _, e := range r.events {
		b = append(b, e.key[:]...)
		b = binary.BigEndian.AppendUint64(b, math.Float64bits(e.miles))
	}
	b = append(b, r.lines...)
	binary.BigEndian.PutUint32(b, uint32(body))
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[frameHead:], castagnoli))
	return append(b, begun), nil
}

// decodeRecord reads the record at the start of b. It returns the record, whose lines are b's
// memory, and its size in bytes.
//
// errTorn: b ends inside the record or holds what a loss of power during the write can leave.
// errGarbage: anything else.
func decodeRecord(b []byte) (r record, size int, err error) {
	if len(b) < frameHead {
		return r, 0, errTorn
	}
	n := int(binary.BigEndian.Uint32(b))
	size = frameHead + n + frameTail
	switch {
	case n == 0:
		return r, 0, errTorn // the file grew, but the bytes did not arrive
	case n < bodyHead || n > maxBody:
		return r, 0, errGarbage
	case len(b) < size:
		return r, 0, errTorn
	}
	body := b[frameHead : size-frameTail]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[4:]) {
		if len(b) == size {
			return r, 0, errTorn
		}
		return r, 0, errGarbage
	}
	r.file = binary.BigEndian.Uint64(body)
	r.offset = int64(binary.BigEndian.Uint64(body[8:]))
	r.sent = time.UnixMilli(int64(binary.BigEndian.Uint64(body[16:])))
	r.newest = time.UnixMilli(int64(binary.BigEndian.Uint64(body[24:])))
	count := int(binary.BigEndian.Uint32(body[32:]))
	body = body[bodyHead:]
	if r.offset < 0 || count > len(body)/eventSize {
		return r, 0, errGarbage
	}
	r.events = make([]event, count)
	for i := range r.events {
		r.events[i].key = key(body)
		r.events[i].miles = math.Float64frombits(binary.BigEndian.Uint64(body[16:]))
		body = body[eventSize:]
	}
	r.lines = body
	if r.state = b[size-frameTail]; r.state != done && r.state != written {
		r.state = begun
	}
	return r, size, nil
}
