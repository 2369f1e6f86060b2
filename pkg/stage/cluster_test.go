package stage_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// openCluster opens a pipeline that knows one node, and has others to ask if that is away.
func openCluster(t *testing.T, c *stagetest.Sharded, change ...func(*stage.Options)) *stage.Broker {
	t.Helper()
	return open(t, c.Servers[0].Options(), append(change, func(o *stage.Options) { o.Nodes = c.Addrs() })...)
}

// flow runs two stages, in -> mid -> end, and returns what arrived at the end.
func flow(t *testing.T, b *stage.Broker) *tally {
	t.Helper()
	end := new(tally)
	start(t, b, stage.Config{Name: "first", In: "in", Out: []stage.Output{{Channel: "mid"}}},
		stage.Each(func(_ context.Context, e stage.Event[string]) (string, error) { return e.Body, nil }))
	start(t, b, stage.Config{Name: "second", In: "mid"}, end.sink())
	return end
}

// TestCluster: events go from the edge to the end over all shards, each in its own shard, with
// keys, limits and progress.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := stagetest.ShardedOf(t, 3, false)
	b := openCluster(t, c, func(o *stage.Options) { o.Prefix = "shop:" })
	end := flow(t, b)
	p := publisher(t, b, "in")
	ids := map[string]bool{}
	publish := func(s stage.Submission) stage.Receipt {
		t.Helper()
		r, err := p.Publish(t.Context(), s)
		if err != nil {
			t.Fatalf("Publish(%+v): %v", s, err)
		}
		ids[r.ID] = true
		return r
	}
	for i := range 40 {
		publish(stage.Submission{Body: "free"})
		publish(stage.Submission{Body: "own", ID: fmt.Sprintf("not a UUID, number %d", i)})
		s := stage.Submission{Body: "keyed", Key: fmt.Sprint(i), Digest: "d", Track: true, Limits: []stage.Limit{{Name: fmt.Sprint("one ", i), Max: 1, Per: time.Hour}, {Name: "all", Max: 40, Per: time.Hour}}}
		first := publish(s)
		if again := publish(s); again.ID != first.ID || !again.Repeat {
			t.Errorf("a repeat under key %d: %+v, want that of %s", i, again, first.ID)
		}
		form := stage.Submission{Body: "form", Key: fmt.Sprint("form ", i), KeyAt: time.Now(), Limits: []stage.Limit{{Name: fmt.Sprint("form ", i), Max: 1, Per: time.Hour}}}
		if first, again := publish(form), publish(form); again.ID != first.ID || !again.Repeat {
			t.Errorf("form %d again: %+v, want a repeat of %s", i, again, first.ID)
		}
		s.Digest = "other"
		if _, err := p.Publish(t.Context(), s); !errors.Is(err, stage.ErrKeyReused) {
			t.Errorf("key %d for another body: %v, want ErrKeyReused", i, err)
		}
		s.Key = "new"
		if _, err := p.Publish(t.Context(), s); !errors.As(err, new(*stage.LimitError)) {
			t.Errorf("over the limit: %v, want a LimitError", err)
		}
	}
	wrongLimit(t, b, p)
	stagetest.Eventually(t, "all events arrive", func() bool { return end.len() == len(ids) })
	end.mu.Lock()
	defer end.mu.Unlock()
	for id, n := range end.seen {
		if n != 1 || !ids[id] {
			t.Errorf("event %s arrived %d times, want once; known: %v", id, n, ids[id])
		}
	}
	for id := range ids {
		if steps, err := b.Progress(t.Context(), id); err == nil && (len(steps) == 0 || steps[0].Stage != "edge") {
			t.Errorf("progress of %s: %+v", id, steps)
		} else if err != nil && end.body[id] == "keyed" {
			t.Errorf("progress of %s: %v", id, err)
		}
	}
	clusterNames(t, c)
	o, err := inspect.New(b).Overview(t.Context())
	in, _ := o.Channel("in")
	if err != nil || len(o.Shards) != 16 || in.Added != len(ids) || len(in.Groups) != 1 || len(in.Groups[0].Consumers) != 1 || in.Groups[0].Consumers[0].Obstacle != "" {
		t.Errorf("Overview: %v, %d shards, in: %+v; want 16, the sum %d and one consumer that works", err, len(o.Shards), in, len(ids))
	}
	other := openCluster(t, c, func(o *stage.Options) { o.Prefix, o.Shards = "shop:", 8 })
	if err := other.Ping(t.Context()); !errors.Is(err, stage.ErrCluster) || !strings.Contains(err.Error(), "set SHARDS=16") {
		t.Errorf("with another number of shards: %v, want ErrCluster and the number to set", err)
	}
}

// clusterNames: each key but one has the prefix and a tag, and each master has some shards.
func clusterNames(t *testing.T, c *stagetest.Sharded) {
	t.Helper()
	tags := map[string]bool{}
	for _, s := range c.Servers {
		rdb := s.Client()
		here := 0
		for _, key := range rdb.Keys(t.Context(), "*").Val() {
			if key == "{shop:in}:adopter" || key == "{shop:mid}:adopter" {
				continue // of the sharded channels
			}
			tag, _, ok := strings.Cut(strings.TrimPrefix(key, "shop:{"), "}")
			if key != "shop:pipeline" && (!ok || !strings.HasPrefix(key, "shop:{")) {
				t.Errorf("a key without prefix and tag: %q", key)
			}
			if strings.HasSuffix(key, "}in") {
				tags[tag] = true
				here++
			}
		}
		if here < 3 {
			t.Errorf("node %s has %d shards", s.Addr, here)
		}
	}
	if len(tags) != 16 {
		t.Errorf("events went to %d shards, want 16", len(tags))
	}
}

// TestClusterMoves: while a shard's slot moves, its scripts do nothing or everything, and the other
// shards go on. Each time, one key more has moved.
func TestClusterMoves(t *testing.T) {
	t.Parallel()
	c := stagetest.ShardedOf(t, 2, false)
	b := openCluster(t, c, func(o *stage.Options) { o.Shards = 2 })
	end := flow(t, b)
	p := publisher(t, b, "in")
	slots := []int{}
	for _, tag := range []string{"3", "2", "1", "0"} { // those of two shards are among the smallest
		slot, err := c.Client().ClusterKeySlot(t.Context(), tag).Result()
		stagetest.OK(t, err)
		slots = append(slots, int(slot))
	}
	sent, tried := map[string]bool{}, 0
	publish := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for {
			r, err := p.Publish(ctx, stage.Submission{Body: "x", Key: fmt.Sprint(len(sent)), Digest: "d", Track: true})
			if err == nil {
				sent[r.ID] = true
				return
			}
			if !errors.Is(err, stage.ErrUnavailable) {
				t.Fatalf("publish while a slot moves: %v", err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	for range 20 {
		publish()
	}
	for _, slot := range slots {
		from := c.Master(slot)
		to := c.Servers[1-slices.Index(c.Servers, from)]
		rdb := from.Client()
		moving, err := rdb.ClusterGetKeysInSlot(t.Context(), slot, 1000).Result()
		_ = rdb.Close()
		stagetest.OK(t, err)
		if len(moving) == 0 {
			continue
		}
		c.Begin(slot, to)
		for _, key := range moving {
			c.MoveKey(key, from, to)
			tried++
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			r, err := p.Publish(ctx, stage.Submission{Body: "x", ID: moveID(tried)}) // may be refused
			cancel()
			if err == nil {
				sent[r.ID] = true
			}
		}
		c.End(slot, from, to)
		for range 20 {
			publish()
		}
	}
	stagetest.Eventually(t, "all events arrive", func() bool { return end.arrived(slices.Collect(maps.Keys(sent))) })
	for id := range sent {
		if n := end.times(id); n != 1 {
			t.Errorf("event %s arrived %d times, want once", id, n)
		}
	}
	whole(t, c)
}

func moveID(n int) string { return fmt.Sprintf("00000000-0000-7000-8000-%012x", n) }

// whole: what the groups have settled, counted one by one, is what was ever added.
func whole(t *testing.T, c *stagetest.Sharded) {
	t.Helper()
	rdb := c.Client()
	for _, s := range c.Servers {
		one := s.Client()
		defer one.Close()
		for _, key := range one.Keys(t.Context(), "*:groups").Val() {
			stagetest.Eventually(t, "nothing is pending in "+key, func() bool {
				n, err := rdb.XPending(t.Context(), strings.TrimSuffix(key, ":groups"), groupOf(key)).Result()
				return err == redis.Nil || err == nil && n.Count == 0
			})
		}
	}
}

func groupOf(key string) string {
	if strings.HasSuffix(key, "}in:groups") {
		return "first"
	}
	return "second"
}

// TestClusterMasterAway: while a master is away, its shards wait, say so, and get nothing new; the
// others go on. Then nothing is lost.
func TestClusterMasterAway(t *testing.T) {
	t.Parallel()
	c := stagetest.ShardedOf(t, 3, false)
	b := openCluster(t, c)
	end := new(tally)
	s, _ := running(t, b, stage.Config{Name: "s", In: "in"}, end.sink())
	stagetest.Eventually(t, "the stage is ready", func() bool { return s.Ready() == nil })
	p := publisher(t, b, "in")
	var kept []string
	publish := func() (refused int) { // at once, in less than the second after which a shard that is away is tried again
		type result struct {
			id  string
			err error
		}
		results := make(chan result)
		for range 32 {
			go func() {
				r, err := p.Publish(t.Context(), stage.Submission{Body: "x"})
				results <- result{r.ID, err}
			}()
		}
		for range 32 {
			switch r := <-results; {
			case r.err == nil:
				kept = append(kept, r.id)
			case errors.Is(r.err, stage.ErrUnavailable):
				refused++
			default:
				t.Error(r.err)
			}
		}
		return refused
	}
	stagetest.Eventually(t, "three masters refuse nothing", func() bool { return publish() == 0 })
	c.Servers[1].Kill()
	stagetest.Eventually(t, "the others get all", func() bool { return publish() == 0 })
	stagetest.Eventually(t, "readiness names a shard", func() bool {
		err := s.Ready()
		return err != nil && strings.Contains(err.Error(), "shard ")
	})
	if err := b.Ping(t.Context()); err != nil {
		t.Errorf("Ping while two masters answer: %v", err)
	}
	stagetest.Eventually(t, "what the others got arrives", func() bool { return end.len() >= len(kept)-16 })
	running(t, b, stage.Config{Name: "late", In: "in"}, new(tally).sink())
	stagetest.Eventually(t, "a stage that starts now has ticked", func() bool { return figure(t, b, "stage_consumers", "late") == 1 })
	if lost, ok := findFigure(t, b, "stage_lost_entries", "late"); ok {
		t.Errorf("stage_lost_entries is %v although a shard is away: what the shard has lost is missing, and would look like a new loss", lost)
	}
	c.Servers[1].Start()
	c.Settled()
	stagetest.Eventually(t, "the stage is ready again", func() bool { return s.Ready() == nil })
	stagetest.Eventually(t, "what was lost is known again", func() bool { _, ok := findFigure(t, b, "stage_lost_entries", "late"); return ok })
	stagetest.Eventually(t, "everything arrives", func() bool { return end.arrived(kept) })
	for _, id := range kept {
		if n := end.times(id); n != 1 {
			t.Errorf("event %s arrived %d times, want once", id, n)
		}
	}
}

// TestClusterIdle: a stage on 16 shards of three masters makes at most 8 round trips a second.
func TestClusterIdle(t *testing.T) {
	t.Parallel()
	c := stagetest.ShardedOf(t, 3, false)
	b := openCluster(t, c, func(o *stage.Options) { o.Lease = 3 * time.Second })
	s, _ := running(t, b, stage.Config{Name: "s", In: "in"}, new(tally).sink())
	stagetest.Eventually(t, "the stage is ready", func() bool { return s.Ready() == nil })
	nodes := make([]*redis.Client, len(c.Servers))
	for i, x := range c.Servers {
		nodes[i] = x.Client()
	}
	trips := func() (n int) { // each is a read from a socket; this question is one for each node
		for _, rdb := range nodes {
			var reads int
			if _, err := fmt.Sscan(rdb.InfoMap(t.Context(), "stats").Val()["Stats"]["total_reads_processed"], &reads); err != nil {
				t.Fatal(err)
			}
			n += reads - 1
		}
		return n
	}
	stagetest.Eventually(t, "the start is over: at most 8 round trips a second", func() bool {
		before, start := trips(), nodes[0].Time(t.Context()).Val()
		time.Sleep(5 * time.Second)
		n, d := trips()-before, nodes[0].Time(t.Context()).Val().Sub(start)
		t.Logf("%d round trips in %s", n, d)
		return n > 0 && float64(n) <= 8*d.Seconds()
	})
}
