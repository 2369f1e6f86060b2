package process

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
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
	allocated func() uint64     // bytes so far
	live      func() uint64     // bytes that the last collection found in use
	percent   func(percent int) // of the live heap to allocate until the next collection
	free      func()            // gives memory back to the system
}

// tendMemory spends memory while the program has work, and gives it back when it has become quiet, until ctx ends. The live
// heap of a service is a few megabytes, so that the runtime by itself collects every few hundred events under load: a
// headroom of 16 MB took a fifth off the CPU time of the four services. And the runtime alone keeps what a burst needed for
// minutes. GOGC, if it is set, stays as it is.
func tendMemory(ctx context.Context) {
	sample := func(name string) func() uint64 {
		s := []metrics.Sample{{Name: name}}
		return func() uint64 {
			metrics.Read(s)
			return s[0].Value.Uint64()
		}
	}
	m := memory{
		allocated: sample("/gc/heap/allocs:bytes"),
		live:      sample("/gc/heap/live:bytes"),
		percent:   func(p int) { debug.SetGCPercent(p) },
		free:      debug.FreeOSMemory,
	}
	if os.Getenv("GOGC") != "" {
		m.percent = func(int) {}
	}
	m.tend(ctx)
}

func (m memory) tend(ctx context.Context) {
	const usual = 100
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	worked := true // starting is work
	percent := usual
	set := func(p int) {
		if p != percent {
			percent = p
			m.percent(p)
		}
	}
	var last, before uint64 // allocated at the last look, and trimAfter ago
	for look := 1; ; look++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := m.allocated()
		if now-last > busyAbove {
			set(min(400, max(usual, int(usual*headroom/max(1, m.live())))))
		}
		last = now
		if look%int(trimAfter/lookEvery) != 0 {
			continue
		}
		quiet := now-before < trimBelow
		if quiet && worked {
			set(usual)
			m.free()
		}
		before, worked = now, !quiet
	}
}
