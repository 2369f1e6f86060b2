//go:build unix

package e2e

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// newSharded is newPipeline on a Redis Cluster of three masters, each with a replica.
func newSharded(t testing.TB, env ...string) (*pipeline, *stagetest.Sharded) {
	t.Helper()
	c := stagetest.ShardedOf(t, 3, true)
	return newPipelineAt(t, c.URL(), c.Servers[0].Options(), env...), c
}

// TestPromiseCluster kills masters of a Redis Cluster under load, moves shards between masters,
// adds a master, kills services meanwhile, and then balances the ledger. The replica of a master
// must have what is answered.
func TestPromiseCluster(t *testing.T) {
	t.Parallel()
	p, c := newSharded(t, "LEASE=1s", "WAIT_REPLICAS=1")
	services := p.start(all...)
	l := newLedger(p)
	stop := l.load(32, services[0])
	start, long, short := time.Now(), chaosFor(t, 2), 2
	killed, moved := 0, 0
	var answers []time.Duration
	for killed+moved < short || time.Since(start) < long {
		time.Sleep(rand.N(burst)) // any moment
		if killed > moved {
			moved++
			if moved == 1 {
				p.reshard(c, c.Add())
			} else {
				p.reshard(c, c.Master(rand.IntN(stagetest.Slots)))
			}
		} else {
			killed++
			answers = append(answers, p.failMaster(c, l))
		}
		services[1+rand.IntN(3)].Restart()
		c.Settled()
		t.Logf("%4.0f s: killed %d, moved %d; %s", time.Since(start).Seconds(), killed, moved, l.sofar())
	}
	stop()
	alive(t, services)
	tell(t, "ledger: %s", l.balance())
	slices.Sort(answers)
	tell(t, "masters killed %d, reshards %d; from the kill until its shards answer 201: median %s, worst %s",
		killed, moved, answers[len(answers)/2], answers[len(answers)-1])
}

// failMaster kills the master of any slot, waits for the next one and starts the killed one again.
// It returns how long it took until the next master has new submissions.
func (p *pipeline) failMaster(c *stagetest.Sharded, l *ledger) time.Duration {
	slot := rand.IntN(stagetest.Slots)
	old := c.Master(slot)
	start := time.Now()
	old.Kill()
	before := l.sofar().accepted
	var next *stagetest.Server
	stagetest.Eventually(p.t, "a replica becomes the master", func() bool {
		next = c.Master(slot)
		return next != nil && next != old
	})
	rdb := next.Client()
	defer rdb.Close()
	key, added := "", int64(0)
	stagetest.Eventually(p.t, "the next master has new submissions", func() bool {
		if key == "" { // the stream of one of its shards
			for _, k := range rdb.Keys(context.Background(), "*}raw_input").Val() {
				key = k
				added = rdb.XInfoStream(context.Background(), k).Val().EntriesAdded
			}
			if key == "" {
				return true // it has none
			}
		}
		return rdb.XInfoStream(context.Background(), key).Val().EntriesAdded > added
	})
	took := time.Since(start).Round(10 * time.Millisecond)
	if now := l.sofar().accepted; now == before {
		p.t.Error("while a master was away, no submission was answered 201 by the others")
	}
	old.Start()
	return took
}

// reshard moves the slots of a quarter of the shards to a master.
func (p *pipeline) reshard(c *stagetest.Sharded, to *stagetest.Server) {
	links, err := p.open().Shards(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	for _, i := range rand.Perm(len(links))[:len(links)/4] {
		slot, err := p.rdb.ClusterKeySlot(p.t.Context(), links[i].Keys.Stream("raw_input")).Result()
		if err != nil {
			p.t.Fatal(err)
		}
		c.Move(to, int(slot))
	}
}
