//go:build unix

package e2e

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// newReplicated is newPipeline with Redis replicated, behind Sentinel.
func newReplicated(t testing.TB, env ...string) (*pipeline, *stagetest.Cluster) {
	t.Helper()
	c := stagetest.Replicated(t)
	at, err := redis.ParseFailoverURL(c.URL())
	if err != nil {
		t.Fatal(err)
	}
	return newPipelineAt(t, c.URL(), stage.Sentinel(at), env...), c
}

// TestPromiseFailover replaces the master under load, by SIGKILL and by command, kills services
// meanwhile, and then balances the ledger.
func TestPromiseFailover(t *testing.T) {
	t.Parallel()
	p, c := newReplicated(t, "LEASE=1s", "WAIT_REPLICAS=2")
	services := p.start(all...)
	l := newLedger(p)
	stop := l.load(32, services[0])
	start, long := time.Now(), chaosFor(t, 2)
	failovers := 0
	for ; failovers < 3 || time.Since(start) < long; failovers++ {
		time.Sleep(rand.N(burst)) // any moment
		if failovers%3 == 2 {
			c.Switch()
		} else {
			c.Fail()
		}
		services[1+rand.IntN(3)].Restart()
		c.Settled()
		t.Logf("%4.0f s: %d failovers; %s", time.Since(start).Seconds(), failovers+1, l.sofar())
	}
	stop()
	alive(t, services)
	tell(t, "ledger: %s", l.balance())
	tell(t, "failovers: %d", failovers)
}
