package journal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
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
	highest     key // of these and all that were sealed before them
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
	sealed := &sealed{path: path, start: int64(len(head)), newest: newest, filter: newFilter(len(keys))}
	for i := range keys {
		sealed.learn(entries[i*idsSize:])
	}
	return sealed, nil
}

// after appends s to those that were sealed before it.
func (s *sealed) after(all []*sealed) []*sealed {
	s.highest = s.last
	if n := len(all); n > 0 && bytes.Compare(all[n-1].highest[:], s.highest[:]) > 0 {
		s.highest = all[n-1].highest
	}
	return append(all, s)
}

// learn takes the next entry into what memory holds. It reports whether its key is greater than the one before.
func (s *sealed) learn(entry []byte) bool {
	k := key(entry)
	if s.count == 0 {
		s.first = k
	} else if bytes.Compare(s.last[:], k[:]) >= 0 {
		return false
	}
	s.last = k
	s.count++
	s.filter.add(k)
	return true
}

// openSealed reads the file at path, checks all of it and returns its identity too.
func openSealed(path string) (*sealed, string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, "", err
	}
	damaged := &damagedError{path: path, what: "sealed IDs do not agree with their checksum"}
	in := bufio.NewReaderSize(f, 32<<10)
	head, err := in.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "", err
	}
	var (
		identity string
		newest   int64
		count    int
		want     uint32
	)
	if _, err := fmt.Sscanf(head, idsHeader, &identity, &newest, &count, &want); err != nil ||
		count < 0 || count > maxIDs || fi.Size() != int64(len(head))+int64(count)*idsSize {
		return nil, "", damaged
	}
	s := &sealed{path: path, start: int64(len(head)), newest: time.UnixMilli(newest), filter: newFilter(count)}
	sum := uint32(0)
	for range count {
		var entry [idsSize]byte
		if _, err := io.ReadFull(in, entry[:]); err != nil {
			return nil, "", err
		}
		sum = crc32.Update(sum, castagnoli, entry[:])
		if !s.learn(entry[:]) {
			return nil, "", damaged
		}
	}
	if sum != want {
		return nil, "", damaged
	}
	return s, identity, nil
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
