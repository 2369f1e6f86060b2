package process

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	trimEvery = 15 * time.Second
	trimBelow = 4 << 20 // bytes allocated in trimEvery by a program that counts as quiet
)

// trimMemory gives memory back to the system when the program has become quiet, until ctx ends. The runtime alone keeps what
// a burst needed for minutes: after 20,000 submissions email held 27.5 MB, trimmed it is 25.3 MB (24.1 MB built without cgo).
func trimMemory(ctx context.Context) {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	trim(ctx, func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}, debug.FreeOSMemory)
}

// trim calls free once each time that the program falls quiet after it was busy. Allocated is the total of bytes so far.
func trim(ctx context.Context, allocated func() uint64, free func()) {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	last, busy := uint64(0), true // starting is work
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := allocated()
		quiet := now-last < trimBelow
		if quiet && busy {
			free()
		}
		last, busy = now, !quiet
	}
}
