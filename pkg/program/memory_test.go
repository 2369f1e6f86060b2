package program

import (
	"context"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
)

func TestTendMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		const mb = 1 << 20
		// What is allocated in each second, and what is live: 15 s of start, a burst, quiet, quiet, a smaller burst with
		// more in use, and quiet again.
		seconds := []struct{ for_, allocated, live uint64 }{
			{15, 1, 2}, {5, 50, 4}, {10, 0, 4}, {15, 0, 4}, {15, 0, 4}, {1, 5, 8}, {1, 5, 64}, {13, 0, 8}, {15, 0, 4},
		}
		var total, live uint64
		var looks int
		var percents, freed []int // in turn: look, percent; and the looks after which memory was given back
		memory{
			allocated: func() uint64 {
				looks++
				at := uint64(looks)
				for _, s := range seconds {
					if at <= s.for_ {
						total, live = total+s.allocated*mb, s.live*mb
						return total
					}
					at -= s.for_
				}
				stop()
				return total
			},
			live:    func() uint64 { return live },
			percent: func(p int) { percents = append(percents, looks, p) },
			free:    func() { freed = append(freed, looks) },
		}.tend(ctx)
		if want := []int{16, 400, 45, 100, 61, 200, 62, 100}; !slices.Equal(percents, want) {
			t.Errorf("looks and percents: %d, want %d", percents, want)
		}
		if want := []int{45, 90}; !slices.Equal(freed, want) {
			t.Errorf("memory was given back after looks %d, want %d", freed, want)
		}
	})
}

func TestAfterCollections(t *testing.T) {
	collected := make(chan struct{}, 100)
	stop := afterCollections(func() { collected <- struct{}{} })
	for range 3 {
		runtime.GC()
		<-collected
	}
	stop()
}
