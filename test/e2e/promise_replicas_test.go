//go:build unix

package e2e

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// TestPromiseReplicas runs several processes of each service under load, and stops, starts, freezes
// and kills them. The work is shared. Every accepted submission and every bare PUBLISH arrives
// once.
func TestPromiseReplicas(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, "LEASE=1s")
	services := p.start("web-api", "web-api", "distance", "distance", "distance", "db", "db", "db", "email")
	standby := p.service("email")
	standby.Start()
	standby.Ready()
	if body := standby.page("/readyz"); !strings.Contains(body, "standby") {
		t.Errorf("/readyz of the second email says %q; want standby", body)
	}
	web, distance, db, email := services[:2], services[2:5], services[5:8], []*service{services[8], standby}
	l := newLedger(p)
	stop := l.load(32, web...)
	quiet := l.publish(40)
	shared(t, append(append([]*service{}, distance...), db...)...)

	long := chaosFor(t, 1)
	for start, n := time.Now(), 0; n == 0 || time.Since(start) < long; n++ {
		// A rolling restart of each group.
		for _, group := range [][]*service{distance, db, web, email} {
			for _, s := range group {
				s.Stop()
				s.Start()
				s.Ready()
			}
		}
		// Each, also the adopter, is frozen for over a lease, while another one restarts.
		for _, group := range [][]*service{distance, db} {
			for i, s := range group {
				s.Pause()
				time.Sleep(1500*time.Millisecond + rand.N(time.Second)) // longer than a lease
				other := group[(i+1)%len(group)]
				other.Stop()
				other.Start()
				s.Resume()
				other.Ready()
			}
		}
		// The log has one writer. If it is frozen, its standby waits. If it is killed, the
		// standby takes over its entries.
		for _, s := range email {
			s.Pause()
			time.Sleep(1500 * time.Millisecond) // longer than a lease
			s.Resume()
			s.Kill()
			s.Start()
			s.Ready()
		}
		// Down to one of each, and up again.
		for _, group := range [][]*service{distance, db} {
			for _, s := range group[1:] {
				s.Stop()
			}
		}
		time.Sleep(rand.N(time.Second)) // under load
		for _, group := range [][]*service{distance, db} {
			for _, s := range group[1:] {
				s.Start()
				s.Ready()
			}
		}
		t.Logf("%4.0f s: accepted %d", time.Since(start).Seconds(), l.sofar().accepted)
	}
	quiet()
	stop()
	alive(t, append(services, standby))
	sum := l.balance()
	tell(t, "ledger: %s", sum)
	if sum.bare == 0 || sum.accepted == 0 {
		t.Error("nothing was tried")
	}
}

// shared waits until each process has settled something.
func shared(t *testing.T, services ...*service) {
	t.Helper()
	for _, s := range services {
		stagetest.Eventually(t, "the process of "+s.Name+" at "+s.admin+" has settled entries", func() bool {
			return settled.MatchString(s.page("/metrics"))
		})
	}
}

var settled = regexp.MustCompile(`stage_settled_total\{outcome="forward",stage="\w+"\} [1-9]`)
