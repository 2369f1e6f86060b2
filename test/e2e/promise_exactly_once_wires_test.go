//go:build unix

package e2e

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// TestPromiseExactlyOnceWires puts a faulty wire between each service and what it depends on.
// Connections are reset in the middle of requests and replies, stall, slow down and go half open.
// Then the ledger must balance.
func TestPromiseExactlyOnceWires(t *testing.T) {
	p := newPipeline(t, "LEASE=1s")
	store := strings.TrimSuffix(strings.TrimPrefix(p.mongo, "mongodb://"), "/")
	type end struct {
		name string
		*wire
	}
	var wires []end
	services := make([]*service, len(all))
	for i, name := range all {
		w := newWire(t, p.redis.Addr)
		wires = append(wires, end{name + " to redis", w})
		env := []string{"REDIS_URL=redis://" + w.addr}
		if name == "db" || name == "email" {
			m := newWire(t, store)
			wires = append(wires, end{name + " to the store", m})
			// Shorter than an operator's setting: a call that hangs ends after 3 s.
			env = append(env, "MONGO_URL=mongodb://"+m.addr+"/?timeoutMS=3000")
		}
		services[i] = p.service(name, env...)
		services[i].Start()
	}
	for _, s := range services {
		s.Ready()
	}
	l := newLedger(p)
	stop := l.load(32, services[0])

	round := func(f fault, least time.Duration, some []end) {
		for _, w := range some {
			w.set(f)
		}
		time.Sleep(least + rand.N(least)) // the fault lasts
		for _, w := range some {
			w.set(clear_)
		}
		time.Sleep(rand.N(500 * time.Millisecond)) // under load
	}
	long := chaosFor(t, 1)
	for start, n := time.Now(), 0; n == 0 || time.Since(start) < long; n++ {
		for _, f := range []fault{cutReply, cutAsk, late, stall} {
			round(f, time.Second, wires)
			one := rand.IntN(len(wires))
			round(f, time.Second, wires[one:one+1])
		}
		// Half open lasts longer than any call's timeout, so only that ends it.
		round(halfOpen, 4*time.Second, wires[n%len(wires):n%len(wires)+1])
		round(halfOpen, 100*time.Millisecond, wires)
		t.Logf("%4.0f s: accepted %d", time.Since(start).Seconds(), l.sofar().accepted)
	}
	for _, w := range wires { // some may have had no connection at that moment
		w.set(halfOpen)
		stagetest.Eventually(t, w.name+" goes half open", func() bool { _, lost := w.figures(); return lost > 0 })
		w.set(clear_)
	}
	stop()
	alive(t, services)
	tell(t, "ledger: %s", l.balance())
	total := 0
	for _, w := range wires {
		cuts, lost := w.figures()
		tell(t, "  %-18s %4d connections reset, %3d half open", w.name, cuts, lost)
		total += cuts
	}
	if total < len(wires) {
		t.Errorf("%d connections were reset: hardly anything was tried", total)
	}
}
