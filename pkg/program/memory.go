package program

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

const (
	lookEvery = time.Second
	busyAbove = 4 << 20          // bytes allocated from look to look by a program at work
	trimAfter = 15 * time.Second // looked back on to tell whether it is quiet
	trimBelow = 4 << 20          // bytes allocated in trimAfter by a program that is quiet
	headroom  = 16 << 20         // bytes that a program at work may allocate before the next collection
)

// memory is what tendMemory looks at and sets; a test has its own.
type memory struct {
	collected <-chan struct{}   // gets a value after a collection
	allocated func() uint64     // bytes so far
	live      func() uint64     // bytes that the last collection found in use, with stacks: what percent is of
	percent   func(percent int) // of that to allocate until the next collection
	free      func()            // gives memory back to the system
}

// tendMemory spends memory while the program has work, and gives it back when it has become quiet, until ctx ends. The live
// heap of a service is a few megabytes, so that the runtime by itself collects every few hundred events under load: a
// headroom of 16 MB took a fifth off the CPU time of the four services. And the runtime alone keeps what a burst needed for
// minutes. GOGC, if it is set, stays as it is.
func tendMemory(ctx context.Context) {
	sum := func(names ...string) func() uint64 {
		samples := make([]metrics.Sample, len(names))
		for i, name := range names {
			samples[i].Name = name
		}
		return func() (sum uint64) {
			metrics.Read(samples)
			for _, s := range samples {
				sum += s.Value.Uint64()
			}
			return sum
		}
	}
	collected := make(chan struct{}, 1)
	defer afterCollections(func() {
		select {
		case collected <- struct{}{}:
		default:
		}
	})()
	m := memory{
		collected: collected,
		allocated: sum("/gc/heap/allocs:bytes"),
		live:      sum("/gc/heap/live:bytes", "/memory/classes/heap/stacks:bytes"),
		percent:   func(p int) { debug.SetGCPercent(p) },
		free:      debug.FreeOSMemory,
	}
	if os.Getenv("GOGC") != "" {
		m.percent = func(int) {}
	}
	m.tend(ctx)
}

// afterCollections calls f after each garbage collection until stop.
func afterCollections(f func()) (stop func()) {
	var stopped atomic.Bool
	var arm func()
	arm = func() {
		// Pointer-free and large enough not to share its memory with another object, which could keep it alive.
		runtime.SetFinalizer(new([32]byte), func(*[32]byte) {
			if !stopped.Load() {
				f()
				arm()
			}
		})
	}
	arm()
	return func() { stopped.Store(true) }
}

func (m memory) tend(ctx context.Context) {
	const usual = 100
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	worked := true // starting is work
	percent, atWork := usual, false
	set := func(work bool) {
		p := usual
		if work {
			p = min(400, max(usual, int(usual*headroom/max(1, m.live()))))
		}
		if atWork = work; p != percent {
			percent = p
			m.percent(p)
		}
	}
	var last, before uint64 // allocated at the last look, and trimAfter ago
	for look := 1; ; look++ {
		select {
		case <-ctx.Done():
			return
		case <-m.collected: // what is live may have grown
			if look--; atWork {
				set(true)
			}
			continue
		case <-tick.C:
		}
		now := m.allocated()
		if now-last > busyAbove {
			set(true)
		}
		last = now
		if look%int(trimAfter/lookEvery) != 0 {
			continue
		}
		quiet := now-before < trimBelow
		if quiet && worked {
			set(false)
			m.free()
		}
		before, worked = now, !quiet
	}
}
