package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/milepost/milepost/pkg/stage/killpoint"
)

// ids remembers on disk the events of all segments before the one being written. It is a bbolt
// file:
//
//	bucket "ids":      16 bytes key → int64 time of writing (Unix ms), float64 miles
//	bucket "segments": uint64 number of a segment → int64 newest submission (Unix ms), its keys
//	bucket "state":    "state" → idsState as JSON
//
// Integers are big-endian. A segment is added in one transaction, before its records are removed.
type ids struct {
	db      *bbolt.DB
	state   idsState
	highest key // of all keys here
}

// idsState belongs to the entries: each transaction changes both.
type idsState struct {
	Identity string `json:"identity"` // of the journal
	Floor    int64  `json:"floor"`    // newest submission that was forgotten, Unix ms
	Sealed   int    `json:"sealed"`   // last segment whose events are here
	Events   int    `json:"events"`
	Sum      uint64 `json:"sum"` // of the CRC-32C of all entries
}

const (
	idsName   = "ids.db"
	entrySize = 8 + 8
)

var (
	bucketIDs      = []byte("ids")
	bucketSegments = []byte("segments")
	bucketState    = []byte("state")
)

// createIDs makes an empty file at path, complete or not at all.
func createIDs(path, identity string) error {
	tmp := path + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bbolt.Open(tmp, 0o600, nil)
	if err != nil {
		return err
	}
	state := idsState{Identity: identity}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketIDs, bucketSegments, bucketState} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return state.put(tx)
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// openIDs opens the file at path and checks all its entries. It must belong to the journal identity
// and hold the events of all segments before the one being written.
func openIDs(path, identity string, writing int) (d *ids, err error) {
	// A damaged file can make bbolt panic or read outside its memory map.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	var db *bbolt.DB
	defer func() {
		if r := recover(); r != nil {
			err = &damagedError{path, fmt.Sprint(r)}
		}
		if err != nil && db != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, &damagedError{path, "it is missing"}
	}
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if errors.Is(err, bbolterrors.ErrInvalid) || errors.Is(err, bbolterrors.ErrChecksum) || errors.Is(err, bbolterrors.ErrVersionMismatch) {
		return nil, &damagedError{path, err.Error()}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	d = &ids{db: db}
	if err := db.View(d.check); err != nil {
		return nil, &damagedError{path, err.Error()}
	}
	if d.state.Identity != identity {
		return nil, &damagedError{path, "it belongs to the journal " + d.state.Identity}
	}
	if d.state.Sealed < writing-1 {
		return nil, &damagedError{path, fmt.Sprintf("it ends with segment %d, but segment %d is being written", d.state.Sealed, writing)}
	}
	return d, nil
}

// check reads the state and all entries and compares them.
func (d *ids) check(tx *bbolt.Tx) error {
	if fi, err := os.Stat(d.db.Path()); err != nil || fi.Size() < tx.Size() {
		return errors.Join(errors.New("the file is cut short"), err)
	}
	if err := d.state.get(tx); err != nil {
		return err
	}
	events, sum := 0, uint64(0)
	all := tx.Bucket(bucketIDs)
	err := all.ForEach(func(k, v []byte) error {
		if len(k) != len(key{}) || len(v) != entrySize || all.Get(k) == nil {
			return fmt.Errorf("entry %x is not in its place", k)
		}
		d.highest = key(k)
		events++
		sum += entrySum(k, v)
		return nil
	})
	if err == nil && (events != d.state.Events || sum != d.state.Sum) {
		err = errors.New("the entries do not agree with their checksum")
	}
	return err
}

func (s *idsState) get(tx *bbolt.Tx) error {
	return json.Unmarshal(tx.Bucket(bucketState).Get(bucketState), s)
}

func (s *idsState) put(tx *bbolt.Tx) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return tx.Bucket(bucketState).Put(bucketState, b)
}

func entrySum(k, v []byte) uint64 {
	return uint64(crc32.Update(crc32.Checksum(k, castagnoli), castagnoli, v))
}

// add adds the events of a segment and forgets the segments whose newest event was submitted before
// limit. Both are on the disk when it returns nil; an error leaves everything as it was. A segment
// that was added before, when a crash kept its successor from being made, may be added again.
func (d *ids) add(segment int, events map[key]Written, newest, limit time.Time) error {
	keys := slices.SortedFunc(maps.Keys(events), func(a, b key) int { return bytes.Compare(a[:], b[:]) })
	var state idsState
	err := d.db.Update(func(tx *bbolt.Tx) error {
		// Not from memory: a commit that failed may be on the disk all the same.
		if err := state.get(tx); err != nil {
			return err
		}
		state.Sealed = max(state.Sealed, segment)
		all := tx.Bucket(bucketIDs)
		all.FillPercent = 0.9 // most keys are added at the end
		last, _ := all.Cursor().Last()
		values := make([]byte, 0, len(keys)*entrySize)
		list := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(keys)*len(key{})), uint64(newest.UnixMilli()))
		for i := range keys {
			k := keys[i][:]
			list = append(list, k...)
			if bytes.Compare(k, last) <= 0 && all.Get(k) != nil {
				continue
			}
			values = binary.BigEndian.AppendUint64(values, uint64(events[keys[i]].SentAt.UnixMilli()))
			values = binary.BigEndian.AppendUint64(values, math.Float64bits(events[keys[i]].Miles))
			v := values[len(values)-entrySize:]
			if err := all.Put(k, v); err != nil {
				return err
			}
			state.Events++
			state.Sum += entrySum(k, v)
		}
		if err := tx.Bucket(bucketSegments).Put(binary.BigEndian.AppendUint64(nil, uint64(segment)), list); err != nil {
			return err
		}
		if err := state.forget(tx, limit); err != nil {
			return err
		}
		if err := state.put(tx); err != nil {
			return err
		}
		killpoint.Pass("journal.mid-seal")
		return nil
	})
	if err != nil {
		return err
	}
	d.state = state
	if n := len(keys); n > 0 && bytes.Compare(keys[n-1][:], d.highest[:]) > 0 {
		d.highest = keys[n-1]
	}
	return nil
}

// forget removes the segments whose newest event was submitted before limit, and raises the floor.
func (s *idsState) forget(tx *bbolt.Tx, limit time.Time) error {
	all, segments := tx.Bucket(bucketIDs), tx.Bucket(bucketSegments)
	var forgotten [][]byte
	err := segments.ForEach(func(name, list []byte) error {
		newest := int64(binary.BigEndian.Uint64(list))
		if newest >= limit.UnixMilli() {
			return nil
		}
		forgotten = append(forgotten, bytes.Clone(name))
		s.Floor = max(s.Floor, newest)
		for k := range slices.Chunk(list[8:], len(key{})) {
			v := all.Get(k)
			if v == nil {
				continue
			}
			s.Events--
			s.Sum -= entrySum(k, v)
			if err := all.Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
	for _, name := range forgotten {
		err = errors.Join(err, segments.Delete(name))
	}
	return err
}

// find looks k up. It is cheap for nearly every new event: event IDs grow with time, so the key is
// greater than all keys here.
func (d *ids) find(k key) (w Written, ok bool, err error) {
	if bytes.Compare(k[:], d.highest[:]) > 0 {
		return w, false, nil
	}
	err = d.db.View(func(tx *bbolt.Tx) error {
		if v := tx.Bucket(bucketIDs).Get(k[:]); v != nil {
			ok = true
			w.SentAt = time.UnixMilli(int64(binary.BigEndian.Uint64(v)))
			w.Miles = math.Float64frombits(binary.BigEndian.Uint64(v[8:]))
		}
		return nil
	})
	return w, ok, err
}

func (d *ids) size() int64 {
	fi, err := os.Stat(d.db.Path())
	if err != nil {
		return 0
	}
	return fi.Size()
}
