package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

func sample(n int) []byte {
	r := record{file: 7, offset: 42, sent: noon, newest: noon.Add(-time.Second)}
	for i := range n {
		r.events = append(r.events, event{keyOf(id(i)), float64(i)})
		r.lines = append(r.lines, text(lines(i, i+1))...)
	}
	b, err := r.encode()
	if err != nil {
		panic(err)
	}
	return b
}

// FuzzDecodeRecord: what decodes encodes to the same bytes, nothing panics, and a whole record cut
// short is torn.
func FuzzDecodeRecord(f *testing.F) {
	f.Add([]byte{}, 0)
	f.Add(make([]byte, 100), 3)
	f.Add(sample(0), 10)
	f.Add(sample(3), 100)
	f.Add(append(sample(1), sample(2)...), 40)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		r, size, err := decodeRecord(b)
		if err != nil {
			if !errors.Is(err, errTorn) && !errors.Is(err, errGarbage) {
				t.Fatalf("decodeRecord: %v", err)
			}
			return
		}
		again, err := r.encode()
		stagetest.OK(t, err)
		if r.state == done {
			again[len(again)-1] = done
		} else {
			again[len(again)-1] = b[size-1]
		}
		if !bytes.Equal(again, b[:size]) {
			t.Fatalf("decoded and encoded again %x, want %x", again, b[:size])
		}
		if cut >= 0 && cut < size {
			if _, _, err := decodeRecord(b[:cut]); !errors.Is(err, errTorn) {
				t.Fatalf("decodeRecord of %d bytes of %d: %v, want %v", cut, size, err, errTorn)
			}
		}
	})
}

// FuzzSegment: a segment of any bytes opens or is damaged, and once open, opens again the same.
func FuzzSegment(f *testing.F) {
	head := fmt.Sprintf(segmentHeader, "journal-x")
	f.Add([]byte(head))
	f.Add([]byte("milepost-journal 1 x\n"))
	f.Add(append([]byte(head), sample(2)...))
	f.Add(append([]byte(head), append(sample(1), sample(3)[:50]...)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "00000001.records")
		stagetest.OK(t, os.WriteFile(path, b, 0o600))
		s, last, err := openSegment(path, 1)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("openSegment: %v", err)
			}
			return
		}
		defer s.f.Close()
		s2, last2, err := openSegment(path, 1)
		if err != nil {
			t.Fatalf("openSegment again: %v", err)
		}
		defer s2.f.Close()
		if s.identity != s2.identity || s.size != s2.size || len(s.events) != len(s2.events) || (last == nil) != (last2 == nil) {
			t.Fatalf("opened again: %+v, want %+v", s2, s)
		}
	})
}

// FuzzIDs: an ids.db with any byte changed opens with all its events, or is damaged.
func FuzzIDs(f *testing.F) {
	path := filepath.Join(f.TempDir(), idsName)
	events := map[key]Written{}
	for i := range 300 {
		events[keyOf(id(i))] = Written{SentAt: noon}
	}
	stagetest.OK(f, createIDs(path, "journal-x"))
	d, err := openIDs(path, "journal-x", 1)
	if err != nil {
		f.Fatal(err)
	}
	stagetest.OK(f, errors.Join(d.add(1, events, noon, time.Time{}), d.db.Close()))
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	for at := 0; at < len(whole); at += 101 {
		f.Add(at, byte(1<<(at%8)))
	}
	f.Fuzz(func(t *testing.T, at int, flip byte) {
		if at < 0 || at >= len(whole) {
			return
		}
		b := bytes.Clone(whole)
		b[at] ^= flip
		path := filepath.Join(t.TempDir(), idsName)
		stagetest.OK(t, os.WriteFile(path, b, 0o600))
		d, err := openIDs(path, "journal-x", 2)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("openIDs: %v", err)
			}
			return
		}
		defer d.db.Close()
		for k := range events {
			if _, ok, err := d.find(k); !ok || err != nil {
				t.Fatalf("find(%x) = %v, %v", k, ok, err)
			}
		}
	})
}
