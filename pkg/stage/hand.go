package stage

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
)

// hand is the set of entries that were read and are not settled yet. It bounds reading.
type hand struct {
	mu      sync.Mutex
	entries map[string]struct{}
	most    int
	era     int // of all of them
	freed   chan struct{}
}

func (h *hand) init(most int) {
	h.entries, h.most, h.freed = map[string]struct{}{}, most, make(chan struct{}, 1)
}

// add takes an entry in hand and tells whether it was not in hand before. It refuses one of an
// earlier era.
func (h *hand) add(d *delivery) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d.era < h.era {
		return false
	}
	n := len(h.entries)
	h.entries[d.EntryID] = struct{}{}
	return len(h.entries) > n
}

func (h *hand) release(batch []settlement) {
	h.mu.Lock()
	for _, x := range batch {
		if x.d.era == h.era {
			delete(h.entries, x.d.EntryID)
		}
	}
	h.mu.Unlock()
	h.signal()
}

// drop forgets all entries: an era begins.
func (h *hand) drop(era int) {
	h.mu.Lock()
	clear(h.entries)
	h.era = era
	h.mu.Unlock()
	h.signal()
}

func (h *hand) signal() {
	select {
	case h.freed <- struct{}{}:
	default:
	}
}

// now is a copy of what is in hand.
func (h *hand) now() map[string]struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.entries)
}

// room waits until there is room to read into and returns how much; 0 when ctx ends.
func (h *hand) room(ctx context.Context) int {
	for {
		h.mu.Lock()
		n := h.most - len(h.entries)
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
