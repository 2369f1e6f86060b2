//go:build unix

package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/test/process"
)

// TestPromiseOutageBacklog lets distance drain a backlog and one a hundred times as long (10,000
// and 1,000,000 in the long form). It compares rate and memory.
func TestPromiseOutageBacklog(t *testing.T) {
	t.Parallel()
	few, many := 400, 40_000
	if chaosFor(t, 5) > 0 {
		few, many = 10_000, 1_000_000
	}
	slow, _ := drain(t, few)
	rate, growth := drain(t, many)
	tell(t, "%d events drain at %.0f/s, %d at %.0f/s; the longer backlog takes %.1f MB more memory than none", few, slow, many, rate, growth/1e6)
	if growth > 40e6 {
		t.Errorf("a backlog of %d takes %.1f MB of distance's memory; want less than 40 whatever its length", many, growth/1e6)
	}
	if few >= 10_000 && rate < slow/2 {
		t.Errorf("%d events drain at %.0f/s, %d at %.0f/s; want about the same", few, slow, many, rate)
	}
}

// drain puts n submissions into the stream, starts distance, and waits until it has forwarded each
// exactly once. It returns the events per second and by how many bytes the process has grown.
func drain(t *testing.T, n int) (rate, growth float64) {
	t.Helper()
	p := newPipeline(t, "MAX_BACKLOG=2000000")
	ctx := t.Context()
	distance := p.start("distance")[0] // makes the group
	idle := resident(t, distance)
	distance.Stop()
	for done := 0; done < n; {
		pipe := p.rdb.Pipeline()
		for range min(2000, n-done) {
			pipe.Do(ctx, "XADD", event.RawInput, "*", "payload", fmt.Sprintf(`{"email":"v%d@example.com","lat":"40.7128","long":"-74.0060"}`, done),
				"id", uuid.NewString(), "at", time.Now().UnixMilli())
			done++
		}
		if _, err := pipe.Exec(ctx); err != nil {
			t.Fatal(err)
		}
	}
	distance.Start()
	var first, last time.Time
	var before, out int64
	for moved := time.Now(); out < int64(n); time.Sleep(time.Millisecond) { // looks, until nothing moves any more
		now, err := p.rdb.XLen(ctx, event.CalculatedDistance).Result()
		stagetest.OK(t, err)
		if now != out {
			if out == 0 {
				first, before = time.Now(), now
			}
			out, last, moved = now, time.Now(), time.Now()
		}
		if time.Since(moved) > process.Patience {
			t.Fatalf("nothing has moved for %s; %d of %d events came through", process.Patience, out, n)
		}
	}
	growth = resident(t, distance) - idle
	p.idle()
	if got := p.rdb.XLen(ctx, event.CalculatedDistance).Val(); got != int64(n) {
		t.Errorf("%d events of %d came through", got, n)
	}
	distance.Stop()
	return float64(out-before) / last.Sub(first).Seconds(), growth
}

var residentMemory = regexp.MustCompile(`(?m)^process_resident_memory_bytes (\S+)$`)

// resident is the process' resident memory in bytes.
func resident(t *testing.T, s *service) float64 {
	t.Helper()
	m := residentMemory.FindStringSubmatch(s.page("/metrics"))
	if m == nil {
		t.Skip("not run: the system does not tell how much memory a process takes")
	}
	n, err := strconv.ParseFloat(m[1], 64)
	stagetest.OK(t, err)
	return n
}
