//go:build unix

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// newSharded is newPipeline on a Redis Cluster of three masters, each with a replica.
func newSharded(t testing.TB, env ...string) (*pipeline, *stagetest.Sharded) {
	t.Helper()
	c := stagetest.ShardedOf(t, 3, true)
	p := newPipelineAt(t, c.URL(), c.Servers[0].Options(), env...)
	p.nodes = c.Client()
	return p, c
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
	slots := map[int]bool{}
	for _, s := range p.streams("raw_input") {
		slot, err := p.nodes.ClusterKeySlot(p.t.Context(), s.key).Result()
		if err != nil {
			p.t.Fatal(err)
		}
		slots[int(slot)] = true
		if len(slots) == 4 {
			break
		}
	}
	for slot := range slots {
		c.Move(to, slot)
	}
}

// stream is one of a channel, and the server that has it.
type stream struct {
	key string
	on  redis.Cmdable
}

// streams are a channel's, one for each shard.
func (p *pipeline) streams(channel string) (all []stream) {
	p.t.Helper()
	if p.nodes == nil {
		return []stream{{p.names + channel, p.rdb}}
	}
	var keys []string
	found := make(chan []string, 100)
	err := p.nodes.ForEachMaster(p.t.Context(), func(ctx context.Context, c *redis.Client) error {
		k, err := c.Keys(ctx, p.names+"{*}"+channel).Result()
		found <- k
		return err
	})
	close(found)
	for k := range found {
		keys = append(keys, k...)
	}
	if err != nil {
		p.t.Logf("look for the streams of %s: %v", channel, err)
	}
	for _, k := range slices.Sorted(slices.Values(keys)) {
		all = append(all, stream{k, p.nodes})
	}
	return all
}

// unsettledShards is unsettled of a cluster.
func (p *pipeline) unsettledShards() (what string, n int) {
	for i, c := range hops {
		for _, s := range p.streams(c) {
			due, err := s.on.ZCard(p.t.Context(), s.key+":due").Result()
			groups, err2 := s.on.XInfoGroups(p.t.Context(), s.key).Result()
			fields, err3 := s.on.HGetAll(p.t.Context(), s.key+":groups").Result()
			entries, err4 := s.on.XLen(p.t.Context(), s.key).Result()
			if err := errors.Join(err, err2, err3, err4); err != nil {
				return err.Error(), 0
			}
			var done, trimmed int
			_, _ = fmt.Sscan(fields["done:"+all[i+1]], &done)
			_, _ = fmt.Sscan(fields["trimmed"], &trimmed)
			left := int(due) + int(entries) + trimmed - done
			for _, g := range groups {
				left += int(g.Pending)
			}
			if n += left; left != 0 {
				what += fmt.Sprintf(" %s: %d entries, %d retries, %v, %+v.", s.key, entries, due, fields, groups)
			}
		}
	}
	return what, n
}

// setAside names the dead letters of a cluster.
func (p *pipeline) setAside() (letters []string) {
	for _, c := range hops {
		for _, s := range p.streams(c + ":dead") {
			found, err := s.on.XRange(p.t.Context(), s.key, "-", "+").Result()
			for _, x := range found {
				letters = append(letters, fmt.Sprintf("dead letter in %s: %v", s.key, strings.TrimSpace(fmt.Sprint(x.Values))))
			}
			if err != nil {
				letters = append(letters, err.Error())
			}
		}
	}
	return letters
}
