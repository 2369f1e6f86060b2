package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
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

// FuzzDecodeRecord: what decodes encodes to the same bytes, nothing panics, and a whole record cut short is torn.
func FuzzDecodeRecord(f *testing.F) {
	f.Add([]byte{}, 0)
	f.Add(make([]byte, 100), 3)
	f.Add(sample(0), 10)
	f.Add(sample(3), 100)
	f.Add(append(sample(1), sample(2)...), 40)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		r, isDone, size, err := decodeRecord(b)
		if err != nil {
			if !errors.Is(err, errTorn) && !errors.Is(err, errGarbage) {
				t.Fatalf("decodeRecord: %v", err)
			}
			return
		}
		again, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		if isDone {
			again[len(again)-1] = done
		} else {
			again[len(again)-1] = b[size-1]
		}
		if !bytes.Equal(again, b[:size]) {
			t.Fatalf("decoded and encoded again %x, want %x", again, b[:size])
		}
		if cut >= 0 && cut < size {
			if _, _, _, err := decodeRecord(b[:cut]); !errors.Is(err, errTorn) {
				t.Fatalf("decodeRecord of %d bytes of %d: %v, want %v", cut, size, err, errTorn)
			}
		}
	})
}

// FuzzSegment: a segment of any bytes opens or is damaged, and once open, opens again the same.
func FuzzSegment(f *testing.F) {
	head := fmt.Sprintf(segmentHeader, "journal-x", 5)
	f.Add([]byte(head))
	f.Add([]byte("milepost-journal 1 x\n"))
	f.Add(append([]byte(head), sample(2)...))
	f.Add(append([]byte(head), append(sample(1), sample(3)[:50]...)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "00000001.records")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, identity, floor, last, err := openSegment(path, 1)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("openSegment: %v", err)
			}
			return
		}
		defer s.f.Close()
		s2, identity2, floor2, last2, err := openSegment(path, 1)
		if err != nil {
			t.Fatalf("openSegment again: %v", err)
		}
		defer s2.f.Close()
		if identity != identity2 || !floor.Equal(floor2) || s.size != s2.size || len(s.events) != len(s2.events) || (last == nil) != (last2 == nil) {
			t.Fatalf("opened again: %q %v %d bytes %d events, want %q %v %d bytes %d events",
				identity2, floor2, s2.size, len(s2.events), identity, floor, s.size, len(s.events))
		}
	})
}

// FuzzSealed: sealed IDs of any bytes open or are damaged, and can be asked.
func FuzzSealed(f *testing.F) {
	path := filepath.Join(f.TempDir(), "seed")
	for _, n := range []int{0, 1, 5} {
		events := map[key]Written{}
		for i := range n {
			events[keyOf(id(i))] = Written{SentAt: noon}
		}
		if _, err := seal(path, "journal-x", events, noon); err != nil {
			f.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "00000001.ids")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, _, err := openSealed(path)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("openSealed: %v", err)
			}
			return
		}
		for _, k := range []key{s.first, s.last} {
			if _, ok, err := s.find(k); ok != (s.count > 0) || err != nil {
				t.Fatalf("find(%x) = %v, %v in %d entries", k, ok, err, s.count)
			}
		}
	})
}
