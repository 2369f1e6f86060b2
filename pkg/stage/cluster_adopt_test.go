package stage_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// TestClusterAdoption has one adopter after another at any node, while events are published at all
// nodes and somebody listens: the one before has stopped, is told to stop while the next one runs,
// or has lost its connection. It adopts no event that is in the stream already, and each bare
// PUBLISH once. With CHAOS_SECONDS, 300 adopters.
func TestClusterAdoption(t *testing.T) {
	t.Parallel()
	rounds := 10
	if os.Getenv("CHAOS_SECONDS") != "" {
		rounds = 300
	}
	c := stagetest.ShardedOf(t, 3, false)
	b := openCluster(t, c)
	p := publisher(t, b, "in")
	nodes := make([]*redis.Client, len(c.Servers))
	for i, s := range c.Servers {
		nodes[i] = s.Client()
	}
	listener := nodes[0].Subscribe(t.Context(), "in")
	t.Cleanup(func() { listener.Close() })
	heard := new(atomic.Int64)
	go func() {
		for range listener.Channel() {
			heard.Add(1)
		}
	}()
	own, end := publishAlways(t, p)
	stagetest.Eventually(t, "the listener hears what the stage publishes", func() bool { return heard.Load() > 0 })
	got := new(tally)
	var sure []string
	bare := func(body string) {
		stagetest.OK(t, nodes[rand.IntN(len(nodes))].Publish(t.Context(), "in", body).Err())
	}
	process := func() (stop func()) {
		return start(t, openCluster(t, c), stage.Config{Name: "s", In: "in"}, got.sink())
	}
	stop := process()
	for round := range rounds {
		switch round % 3 {
		case 0:
			stop()
			stop = process()
		case 1:
			next := process()
			stop()
			stop = next
		case 2:
			for _, rdb := range nodes {
				stagetest.OK(t, rdb.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err())
			}
		}
		for probe, last := 0, ""; last == "" || !got.all(last); probe++ {
			last = fmt.Sprintf("probe %d of round %d", probe, round)
			bare(last)
			for end := time.Now().Add(time.Duration(probe+1) * 50 * time.Millisecond); !got.all(last) && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
		}
		for i := range 10 {
			sure = append(sure, fmt.Sprintf("bare %d of round %d", i, round))
			bare(sure[len(sure)-1])
		}
		stagetest.Eventually(t, "bare messages arrive", func() bool { return got.all(sure[10*round:]...) })
	}
	end()
	stagetest.Eventually(t, "all events arrive", func() bool { return got.all(*own...) })
	stop()
	got.eachOnce(t)
	t.Logf("%d adopters, %d events, %d bare messages, %d messages heard", rounds, len(*own), len(sure), heard.Load())
}

// publishAlways publishes events in batches until end is called. Then own has their bodies.
func publishAlways(t *testing.T, p *stage.Publisher) (own *[]string, end func()) {
	own = new([]string)
	var over atomic.Bool
	var mu sync.Mutex
	var all sync.WaitGroup
	for client := range 16 {
		all.Go(func() {
			for i := 0; !over.Load(); i++ {
				body := fmt.Sprintf("own %d of %d", i, client)
				if _, err := p.Publish(t.Context(), stage.Submission{Body: body}); err != nil {
					t.Errorf("publish: %v", err)
					return
				}
				time.Sleep(5 * time.Millisecond) // paces the load
				mu.Lock()
				*own = append(*own, body)
				mu.Unlock()
			}
		})
	}
	return own, func() { over.Store(true); all.Wait() }
}

// TestClusterSharded: what is published on the sharded channel is adopted once, in whatever node
// its slot is, also after the slot has moved, and by one of two processes.
func TestClusterSharded(t *testing.T) {
	t.Parallel()
	c := stagetest.ShardedOf(t, 3, false)
	rdb := c.Client()
	got := new(tally)
	process := func() (stop func()) {
		b := openCluster(t, c, func(o *stage.Options) { o.Prefix = "shop:" })
		return start(t, b, stage.Config{Name: "s", In: "in"}, got.sink())
	}
	sent := 0
	send := func() (body string) {
		sent++
		body = fmt.Sprint("message ", sent)
		stagetest.OK(t, rdb.SPublish(t.Context(), "shop:in", body).Err())
		return body
	}
	settled := func(what string) {
		t.Helper()
		var last string
		stagetest.Eventually(t, "messages are adopted "+what, func() bool {
			if last == "" || !got.all(last) {
				last = send()
			}
			time.Sleep(20 * time.Millisecond)
			return got.all(last)
		})
		var sure []string
		for range 20 {
			sure = append(sure, send())
		}
		stagetest.Eventually(t, "all arrive "+what, func() bool { return got.all(sure...) })
	}
	stop := process()
	settled("at first")
	process()
	slot := int(rdb.ClusterKeySlot(t.Context(), "shop:in").Val())
	for range 3 {
		from := c.Master(slot)
		to := c.Servers[(slices.Index(c.Servers, from)+1)%3]
		c.Begin(slot, to)
		settled("while the slot moves")
		c.End(slot, from, to)
		settled("after the slot moved")
	}
	stop()
	settled("after its adopter stopped")
	got.eachOnce(t)
}

// TestClusterRights: with the rights that it asks for, on each node, a stage works and adopts.
func TestClusterRights(t *testing.T) {
	t.Parallel()
	c := stagetest.ShardedOf(t, 3, false)
	everywhere := func(line string) {
		for _, s := range c.Servers {
			command(t, s.Client(), line)
		}
	}
	everywhere("ACL SETUSER app on >p +eval +evalsha +info")
	b := openCluster(t, c, func(o *stage.Options) {
		app := *o.Redis
		app.Username, app.Password = "app", "p"
		o.Redis, o.Prefix = &app, "shop:"
	})
	got := new(tally)
	s, _ := running(t, b, stage.Config{Name: "s", In: "in"}, got.sink())
	asked, last := map[string]bool{}, ""
	stagetest.Eventually(t, "it has the rights that it asks for", func() bool {
		err := b.Ping(t.Context())
		if lacks := new(stage.RightsError); errors.As(err, &lacks) {
			if !asked[lacks.Grant] {
				everywhere(lacks.Grant)
			}
			asked[lacks.Grant] = true
		}
		if err == nil {
			err = s.Ready()
		}
		if err != nil && err.Error() != last {
			last = err.Error()
			t.Log(err)
		}
		return err == nil
	})
	if len(asked) > 3 {
		t.Errorf("it asked %d times: %v", len(asked), asked)
	}
	rdb := c.Client()
	stagetest.Eventually(t, "it adopts from both channels", func() bool {
		rdb.Publish(t.Context(), "shop:in", "plain")
		rdb.SPublish(t.Context(), "shop:in", "sharded")
		time.Sleep(20 * time.Millisecond)
		return got.all("plain", "sharded")
	})
}
