package stage

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/milepost/milepost/pkg/stage/internal/entry"
)

const (
	handBytes = 16 << 20 // payloads in hand of a stage
	readBytes = 4 << 20  // payloads in one read, as far as the last one tells
)

// hand is the set of entries that were read and are not settled yet, with the bytes of their
// payloads. It bounds reading.
type hand struct {
	mu        sync.Mutex
	entries   map[string]int
	bytes     int
	each      int // bytes that an entry may have
	most      int // entries
	mostBytes int // of payloads; over that, nothing is read
	era       int // of all of them
	freed     chan struct{}
}

func (h *hand) init(most, bytes int) {
	h.entries, h.most, h.mostBytes, h.each, h.freed = map[string]int{}, most, bytes, entryMost, make(chan struct{}, 1)
}

// add takes an entry in hand and tells whether it was not in hand before. It refuses one of an
// earlier era.
func (h *hand) add(d *delivery) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, there := h.entries[d.EntryID]; there || d.era < h.era {
		return false
	}
	h.entries[d.EntryID] = len(d.Payload)
	h.bytes += len(d.Payload)
	return true
}

// learn tells how large the entries of a read were. Redis bounds a read by count only. So the next
// one's count follows from the last one's sizes, and grows at most twofold.
func (h *hand) learn(in []delivery) {
	bytes := 0
	for i := range in {
		bytes += len(in[i].Payload)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(in) > 0 {
		h.each = max(bytes/len(in), h.each/2, 1)
	}
}

func (h *hand) release(batch []settlement) {
	h.mu.Lock()
	for _, x := range batch {
		if x.d.era == h.era {
			h.bytes -= h.entries[x.d.EntryID]
			delete(h.entries, x.d.EntryID)
		}
	}
	h.mu.Unlock()
	nudge(h.freed)
}

// drop forgets all entries: an era begins.
func (h *hand) drop(era int) {
	h.mu.Lock()
	clear(h.entries)
	h.bytes, h.era = 0, era
	h.mu.Unlock()
	nudge(h.freed)
}

// now is a copy of what is in hand.
func (h *hand) now() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.entries)
}

// room waits until there is room to read into and returns how many entries to read; 0 when ctx
// ends.
func (h *hand) room(ctx context.Context) int {
	for {
		h.mu.Lock()
		n := min(h.most-len(h.entries), max(1, readBytes/h.each))
		if h.bytes >= h.mostBytes {
			n = 0
		}
		h.mu.Unlock()
		if n > 0 {
			return n
		}
		select {
		case <-ctx.Done():
			return 0
		case <-h.freed:
		}
	}
}

// empty waits until nothing is in hand, or ctx ends. Nothing may be read meanwhile.
func (h *hand) empty(ctx context.Context) {
	for {
		h.mu.Lock()
		n := len(h.entries)
		h.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-h.freed:
		}
	}
}

// replay follows the entries that were already pending for this consumer when it connected. A
// lasting consumer that has settled them all does not die of them.
type replay struct {
	era       atomic.Int64
	read      atomic.Bool  // all of them were read
	unsettled atomic.Int64 // of those that were read
}

func (r *replay) done() bool { return r.read.Load() && r.unsettled.Load() == 0 }

func (r *replay) settled(batch []settlement) {
	for _, x := range batch {
		if x.d.replayed && int64(x.d.era) == r.era.Load() {
			r.unsettled.Add(-1)
		}
	}
}

// delivery is an entry in the hands of this process, from read to settle.
type delivery struct {
	entry.Entry
	lane     *lane
	era      int    // of the lane, in which it was read
	failure  string // the error of the try just made, shown when somebody looks for the event
	read     time.Time
	span     string // traceparent of the span that handles it, "" if it is not traced
	alone    bool   // may have ended processes: is handled while nothing else is
	replayed bool   // was pending for this consumer when it connected
}
