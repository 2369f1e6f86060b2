package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// sealed is a segment whose lines are all on the disk and that only remembers event IDs: a file of a header line and of
// entries sorted by key, looked up on disk. What memory holds is a filter, 10 bits an event.
//
//	milepost-ids 1 <identity> <newest submission, Unix ms> <number of entries> <CRC-32C of the entries, hex>\n
//	entries: 16 bytes key, int64 time of writing (Unix ms), float64 miles; big-endian
type sealed struct {
	path        string
	start       int64 // where the entries start
	count       int
	first, last key
	newest      time.Time
	filter      filter
}

const (
	idsHeader = "milepost-ids 1 %s %d %d %08x\n"
	idsSize   = 16 + 8 + 8
	maxIDs    = 1 << 24 // more than any segment has
)

// seal writes the events of a segment to path, whole or not at all.
func seal(path, identity string, events map[key]Written, newest time.Time) (*sealed, error) {
	keys := make([]key, 0, len(events))
	for k := range events {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int { return bytes.Compare(a[:], b[:]) })
	entries := make([]byte, 0, len(keys)*idsSize)
	for _, k := range keys {
		entries = append(entries, k[:]...)
		entries = binary.BigEndian.AppendUint64(entries, uint64(events[k].SentAt.UnixMilli()))
		entries = binary.BigEndian.AppendUint64(entries, math.Float64bits(events[k].Miles))
	}
	head := fmt.Sprintf(idsHeader, identity, newest.UnixMilli(), len(keys), crc32.Checksum(entries, castagnoli))
	if err := create(path, append([]byte(head), entries...)); err != nil {
		return nil, err
	}
	return newSealed(path, int64(len(head)), entries, newest), nil
}

func newSealed(path string, start int64, entries []byte, newest time.Time) *sealed {
	s := &sealed{path: path, start: start, count: len(entries) / idsSize, newest: newest}
	s.filter = newFilter(s.count)
	for i := range s.count {
		s.filter.add(key(entries[i*idsSize:]))
	}
	if s.count > 0 {
		s.first, s.last = key(entries), key(entries[len(entries)-idsSize:])
	}
	return s
}

// openSealed reads the file at path, checks all of it and returns its identity too.
func openSealed(path string) (*sealed, string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, "", err
	}
	damaged := &damagedError{path: path, what: "sealed IDs do not agree with their checksum"}
	head, entries, ok := bytes.Cut(b, []byte("\n"))
	if !ok {
		return nil, "", damaged
	}
	var (
		identity string
		newest   int64
		count    int
		sum      uint32
	)
	if _, err := fmt.Sscanf(string(head)+"\n", idsHeader, &identity, &newest, &count, &sum); err != nil ||
		count < 0 || count > maxIDs || len(entries) != count*idsSize || crc32.Checksum(entries, castagnoli) != sum {
		return nil, "", damaged
	}
	for i := 1; i < count; i++ {
		if bytes.Compare(entries[(i-1)*idsSize:][:16], entries[i*idsSize:][:16]) >= 0 {
			return nil, "", damaged
		}
	}
	return newSealed(path, int64(len(head)+1), entries, time.UnixMilli(newest)), identity, nil
}

// find looks k up: in memory if it is not there, as for nearly every new event, else by bisection on disk.
func (s *sealed) find(k key) (Written, bool, error) {
	if s.count == 0 || bytes.Compare(k[:], s.first[:]) < 0 || bytes.Compare(k[:], s.last[:]) > 0 || !s.filter.mayHave(k) {
		return Written{}, false, nil
	}
	f, err := os.Open(s.path)
	if err != nil {
		return Written{}, false, err
	}
	defer f.Close()
	for lo, hi := 0, s.count; lo < hi; {
		mid := lo + (hi-lo)/2
		var entry [idsSize]byte
		if _, err := f.ReadAt(entry[:], s.start+int64(mid)*idsSize); err != nil {
			return Written{}, false, err
		}
		switch c := bytes.Compare(k[:], entry[:16]); {
		case c < 0:
			hi = mid
		case c > 0:
			lo = mid + 1
		default:
			return Written{
				SentAt: time.UnixMilli(int64(binary.BigEndian.Uint64(entry[16:]))),
				Miles:  math.Float64frombits(binary.BigEndian.Uint64(entry[24:])),
			}, true, nil
		}
	}
	return Written{}, false, nil
}

// create writes a file that is there with all of its content, or not at all, also after a loss of power.
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

// fieldsOnly reports whether identity can stand in a header.
func fieldsOnly(identity string) bool {
	return identity != "" && strings.IndexFunc(identity, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}
