package program

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	leanHeap    = 20 << 20 // bytes of heap and stacks, garbage included
	leanPercent = 50       // lowest GOGC
)

// keepLean sets GOGC after each collection: percent as long as the heap then grows to leanHeap at
// most, less if more is in use. With 1,000 open streams web-api has 40 MB of memory, with a fixed
// 400 it had 64.
func keepLean(percent int) {
	read := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	last := percent
	var collected func(*[16]byte)
	collected = func(next *[16]byte) {
		metrics.Read(read)
		now := leanGC(percent, int(read[0].Value.Uint64()+read[1].Value.Uint64()))
		if d := now - last; d*d*25 > last*last { // by a fifth: a change stops the world
			last = now
			debug.SetGCPercent(now)
		}
		runtime.SetFinalizer(next, collected) // the next collection finds it unused again
	}
	runtime.SetFinalizer(new([16]byte), collected)
}

// leanGC returns the GOGC for so many bytes in use.
func leanGC(percent, used int) int {
	return max(leanPercent, min(percent, 100*(leanHeap-used)/max(1, used)))
}
