//go:build unix

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// TestPromiseTakeOver kills one of two replicas while entries are pending for it, and measures how
// long these wait until the other has settled them. `make chaos` prints the times of 20 kills of
// each kind.
func TestPromiseTakeOver(t *testing.T) {
	t.Parallel()
	kills := 1
	if chaosFor(t, 1) > 0 {
		kills = 20
	}
	p := newPipeline(t, "LEASE=3s")
	p.start("web-api", "db", "email")
	pair := p.start("distance", "distance")
	sent := 0
	for _, kind := range []string{"one of two replicas is killed", "it is restarted at once", "Redis is restarted beside it"} {
		var waits []time.Duration
		for i := range kills {
			victim := pair[i%2]
			var paused time.Time
			consumer := ""
			for consumer == "" { // until it was paused while it waited for work
				victim.Resume()
				time.Sleep(50 * time.Millisecond) // it reads again
				victim.Pause()
				paused = time.Now()
				p.submit(visits(fmt.Sprint("wait-", sent), 2)...)
				sent += 2
				consumer = p.holder("distance", victim.PID())
			}
			victim.Kill()
			switch kind {
			case "it is restarted at once":
				victim.Start()
			case "Redis is restarted beside it":
				p.redis.Kill()
				p.redis.Start()
			}
			stagetest.Eventually(t, "the entries of the dead replica are settled", func() bool {
				left, err := p.rdb.XPending(t.Context(), hops[0], "distance").Result()
				return err == nil && left.Consumers[consumer] == 0 && left.Count == 0
			})
			waits = append(waits, time.Since(paused))
			if kind != "it is restarted at once" {
				victim.Start()
			}
			victim.Ready()
			stagetest.Eventually(t, "both replicas wait for work", func() bool { return p.reading("distance") == 2 })
		}
		slices.Sort(waits)
		tell(t, "%d kills, %s: entries waited %.1f s at the median, %.1f s at worst", kills, kind,
			waits[len(waits)/2].Seconds(), waits[len(waits)-1].Seconds())
	}
	p.idle()
	if n := p.sent().total; n != sent {
		t.Errorf("%d lines in sent_emails, want %d", n, sent)
	}
}

// holder is the consumer of a process if entries of raw_input are pending for it, else "".
func (p *pipeline) holder(group string, pid int) string {
	p.t.Helper()
	time.Sleep(20 * time.Millisecond) // the entries reach the consumers
	pending, err := p.rdb.XPending(p.t.Context(), hops[0], group).Result()
	stagetest.OK(p.t, err)
	for name := range pending.Consumers {
		if strings.Contains(name, fmt.Sprintf("-%d-", pid)) {
			return name
		}
	}
	return ""
}

// reading counts the alive consumers of a group of raw_input.
func (p *pipeline) reading(group string) (n int) {
	p.t.Helper()
	s, err := p.look().Status(p.t.Context(), hops[0])
	stagetest.OK(p.t, err)
	for _, g := range s.Groups {
		for _, c := range g.Consumers {
			if g.Name == group && c.State == "alive" {
				n++
			}
		}
	}
	return n
}
