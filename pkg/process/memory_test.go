package process

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
)

func TestTrim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		const mb = 1 << 20
		allocations := []uint64{20 * mb, 1 * mb, 1 * mb, 9 * mb, 9 * mb, 3 * mb, 0, 5 * mb, 0}
		var total uint64
		var ticks int
		var freed []int // in which tick
		trim(ctx, func() uint64 {
			total += allocations[ticks]
			if ticks++; ticks == len(allocations) {
				stop()
			}
			return total
		}, func() { freed = append(freed, ticks-1) })
		if want := []int{1, 5, 8}; !slices.Equal(freed, want) {
			t.Errorf("with %d bytes allocated from tick to tick, memory was given back in ticks %d, want %d", allocations, freed, want)
		}
	})
}
