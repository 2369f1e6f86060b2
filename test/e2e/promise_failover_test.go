//go:build unix

package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/test/process"
)

// newReplicated is newPipeline with Redis replicated, behind Sentinel. The services ask the first
// Sentinel through the wire.
func newReplicated(t testing.TB, r stagetest.Replication, env ...string) (*pipeline, *stagetest.Cluster, *wire) {
	t.Helper()
	c := r.Start(t)
	at, err := redis.ParseFailoverURL(c.URL())
	stagetest.OK(t, err)
	w := newWire(t, c.Sentinels[0].Addr)
	return newPipelineAt(t, strings.Replace(c.URL(), w.target, w.addr, 1), stage.Sentinel(at), env...), c, w
}

// TestPromiseFailover replaces the master under load, kills services meanwhile, and then balances
// the ledger. All replicas must have what is answered. A third of the masters die; a third live on,
// and a Sentinel replaces them; of a third the connections are half dead, new ones too. So are
// those to one of the Sentinels, most of the time.
func TestPromiseFailover(t *testing.T) {
	t.Parallel()
	ways := map[string]*wire{} // to the servers, by their own addresses
	p, c, asked := newReplicated(t, stagetest.Replication{Via: func(addr string) string {
		ways[addr] = newWire(t, addr)
		return ways[addr].addr
	}}, "LEASE=1s", "WAIT_REPLICAS=2")
	services := p.start(all...)
	l := newLedger(p)
	stop := l.load(32, services[0])
	start, long, n := time.Now(), chaosFor(t, 2), 0
	var took [2][2][]time.Duration // of killed and half dead ones: to the next 201, to the next line
	for ; n < 3 || time.Since(start) < long; n++ {
		c.Settled()
		asked.set([]fault{mute, stall, clear_}[n%3])
		time.Sleep(rand.N(burst)) // any moment
		if n%3 == 2 {
			c.Switch()
		} else {
			resumed := make(chan [2]time.Duration, 1)
			var way *wire
			c.Fail(func(master *stagetest.Server) {
				if way = ways[master.Addr]; n%3 == 0 {
					master.Kill()
				} else {
					way.set(mute)
				}
				go func() { resumed <- l.resumes() }()
			})
			way.set(clear_)
			for i, d := range <-resumed {
				took[n%3][i] = append(took[n%3][i], d)
			}
		}
		services[1+rand.IntN(3)].Restart()
		t.Logf("%4.0f s: masters replaced %d; %s", time.Since(start).Seconds(), n+1, l.sofar())
	}
	stop()
	alive(t, services)
	tell(t, "ledger: %s", l.balance())
	tell(t, "masters replaced %d, of these switched %d", n, n/3)
	for i, how := range []string{"killed", "half dead"} {
		answers, lines := took[i][0], took[i][1]
		slices.Sort(answers)
		slices.Sort(lines)
		tell(t, "%d %s: to the next 201: median %s, worst %s; to the next line: median %s, worst %s",
			len(lines), how, answers[len(answers)/2], answers[len(answers)-1], lines[len(lines)/2], lines[len(lines)-1])
	}
	if p.redis == nil && l.sofar().accepted == 0 {
		t.Error("nothing was tried")
	}
}

// resumes waits for the next 201 and the next line after now, and returns how long they took. What
// was under way is not counted.
func (l *ledger) resumes() (after [2]time.Duration) {
	start := time.Now()
	for i, count := range []func() int{func() int { return l.sofar().accepted }, func() int { return l.p.sent().total }} {
		if i == 0 {
			time.Sleep(100 * time.Millisecond) // answers on their way
		}
		for before := count(); count() == before && time.Since(start) < process.Patience; {
			time.Sleep(20 * time.Millisecond)
		}
		after[i] = time.Since(start).Round(10 * time.Millisecond)
	}
	return after
}

// TestPromiseFailoverLoss shows when a failover loses what was answered 201: exactly if the replica
// that becomes the master is not among those that acknowledged it.
func TestPromiseFailoverLoss(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		wait     int
		hold     int  // replicas that get nothing more
		cut      bool // the other replica cannot be reached when the master dies
		accepted bool
		lost     bool
	}{
		"without WAIT, replication held back":       {wait: 0, hold: 2, accepted: true, lost: true},
		"with WAIT, replication held back":          {wait: 1, hold: 2},
		"the replica that acknowledged was cut off": {wait: 1, hold: 1, cut: true, accepted: true, lost: true},
		"all replicas, one held back":               {wait: 2, hold: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, c, _ := newReplicated(t, stagetest.Replication{}, fmt.Sprint("WAIT_REPLICAS=", tc.wait), "WAIT_TIMEOUT=300ms")
			p.start("web-api")
			kept := p.submit(visits("kept", 5)...)
			c.Settled()
			master := c.Master()
			replicas := slices.DeleteFunc(slices.Clone(c.Servers), func(s *stagetest.Server) bool { return s == master })
			c.Hold(replicas[:tc.hold]...)
			var answered []string
			if late := visits("late", 5); tc.accepted {
				answered = p.submit(late...)
			} else {
				for _, v := range late {
					if status, _, err := post(t, p.web[0].url, v, ""); err != nil || status != http.StatusServiceUnavailable {
						t.Errorf("POST /distance: %d, %v; want 503", status, err)
					}
				}
			}
			if tc.cut {
				stagetest.OK(t, syscall.Kill(replicas[1].PID(), syscall.SIGSTOP))
			}
			c.Fail((*stagetest.Server).Kill)
			lost := 0
			for i, id := range append(kept, answered...) {
				if !p.has(id) {
					lost++
					if i < len(kept) {
						t.Errorf("%s was lost, which all replicas had", id)
					}
				}
			}
			tell(t, "answered 201 %d, lost in the failover %d", len(kept)+len(answered), lost)
			if (lost > 0) != tc.lost {
				t.Errorf("lost %d of %d; want a loss: %t", lost, len(answered), tc.lost)
			}
		})
	}
}

// has tells whether raw_input has an entry of the event.
func (p *pipeline) has(id string) bool {
	p.t.Helper()
	entries, err := p.rdb.XRange(p.t.Context(), event.RawInput, "-", "+").Result()
	stagetest.OK(p.t, err)
	return slices.ContainsFunc(entries, func(m redis.XMessage) bool { return m.Values["id"] == id })
}
