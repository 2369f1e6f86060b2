//go:build unix

package e2e

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/test/process"
)

// newSharded is newPipeline on a Redis Cluster of three masters, each with a replica.
func newSharded(t testing.TB, env ...string) (*pipeline, *stagetest.Sharded) {
	t.Helper()
	c := stagetest.ShardedOf(t, 3, true)
	return newPipelineAt(t, c.URL(), c.Servers[0].Options(), env...), c
}

// TestPromiseCluster kills masters of a Redis Cluster under load, moves shards between masters,
// adds a master and removes it again, kills services meanwhile, and then balances the ledger. The
// replica of a master must have what is answered. Other programs PUBLISH and SPUBLISH all the time:
// what they send while nothing happens arrives once, the rest once or not at all. In the long form
// at least 10 masters are killed, and redis-cli moves a quarter of all slots.
func TestPromiseCluster(t *testing.T) {
	t.Parallel()
	p, c := newSharded(t, "LEASE=1s", "WAIT_REPLICAS=1")
	services := p.start(all...)
	l := newLedger(p)
	stop := l.load(32, services[0])
	others := &strangers{l: l}
	for _, s := range c.Servers {
		others.at = append(others.at, s.Client())
	}
	quiet := every(8, func(<-chan struct{}) { others.send(1, loose) })
	start, long, rounds := time.Now(), chaosFor(t, 2), 4
	if long > 0 {
		rounds = 20
	}
	killed, moved := 0, 0
	var added *stagetest.Server
	var answers []time.Duration
	for killed+moved < rounds || time.Since(start) < long {
		time.Sleep(rand.N(burst)) // any moment
		if killed > moved {
			moved++
			switch {
			case added != nil:
				c.Remove(added, c.Master(rand.IntN(stagetest.Slots)))
				added = nil
			case long > 0 && moved%4 == 3:
				c.Reshard(c.Master(rand.IntN(stagetest.Slots)), stagetest.Slots/4)
			default:
				added = c.Add()
				p.reshard(c, added)
			}
		} else {
			killed++
			answers = append(answers, p.failMaster(c, l))
		}
		services[1+rand.IntN(3)].Restart()
		c.Settled()
		others.settled()
		t.Logf("%4.0f s: killed %d, moved %d; %s", time.Since(start).Seconds(), killed, moved, l.sofar())
	}
	stop()
	quiet()
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
	stagetest.Eventually(p.t, "the other masters answer 201 while one is away", func() bool { return l.sofar().accepted > before })
	old.Start()
	return took
}

// reshard moves the slots of a quarter of the shards to a master.
func (p *pipeline) reshard(c *stagetest.Sharded, to *stagetest.Server) {
	links, err := p.open().Shards(p.t.Context())
	stagetest.OK(p.t, err)
	for _, i := range rand.Perm(len(links))[:len(links)/4] {
		slot, err := p.rdb.ClusterKeySlot(p.t.Context(), links[i].Keys.Stream("raw_input")).Result()
		stagetest.OK(p.t, err)
		c.Move(to, int(slot))
	}
}

// strangers are programs that only publish, each message once at one node, every second one by
// SPUBLISH.
type strangers struct {
	l  *ledger
	at []*redis.Client
}

// send sends n messages that have this promise, and returns their addresses.
func (s *strangers) send(n int, p promise) (addresses []string) {
	for i := range n {
		v, channel, payload := s.l.stranger()
		channel = s.l.p.names + channel
		publish := (*redis.Client).Publish
		if i/2%2 == 1 || n == 1 && rand.IntN(2) == 0 {
			publish = (*redis.Client).SPublish
		}
		var err error
		for _, node := range rand.Perm(len(s.at)) { // of a sharded channel, some node is the right one
			err = publish(s.at[node], context.Background(), channel, payload).Err()
			if err == nil || !strings.HasPrefix(err.Error(), "MOVED ") && !errors.Is(err, syscall.ECONNREFUSED) {
				break
			}
		}
		if err != nil && p == bare {
			s.l.p.t.Errorf("publish on %s: %v", channel, err)
		}
		s.l.note(v, p, "")
		addresses = append(addresses, v.Email)
	}
	return addresses
}

// settled waits until for 3 s all messages have arrived, and then sends some that must. It waits
// longer and longer for a message, as the machine may be slow.
func (s *strangers) settled() {
	t := s.l.p.t
	arrive := func(all []string) bool {
		sent := s.l.p.sent().of
		return !slices.ContainsFunc(all, func(a string) bool { return sent[a] == 0 })
	}
	wait := 2 * time.Second
	for since := time.Now(); time.Since(since) < 3*time.Second; {
		probes, end := s.send(4, loose), time.Now().Add(wait)
		for !arrive(probes) && time.Now().Before(end) {
			time.Sleep(50 * time.Millisecond)
		}
		if arrive(probes) {
			continue
		}
		if since, wait = time.Now(), wait*3/2; wait > process.Patience {
			t.Fatalf("bare messages do not arrive within %s", wait)
		}
	}
	sure := s.send(40, bare)
	stagetest.Eventually(t, "bare messages arrive", func() bool { return arrive(sure) })
}
