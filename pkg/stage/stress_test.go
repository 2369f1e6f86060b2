package stage_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/redis/go-redis/v9"
)

// Replicas of two stages are started and stopped at random while events come from the edge and from
// strangers: everything arrives, and each forward happens once.
func TestStartStop(t *testing.T) {
	t.Parallel()
	srv := stagetest.Real(t)
	// Who adopts keeps its lease also on a starved machine, else bare PUBLISHes may be lost.
	b := open(t, srv.Options(), func(o *stage.Options) { o.Lease = 10 * time.Second })
	var got tally
	start(t, b, stage.Config{Name: "end", In: "out"}, got.sink())
	start(t, b, stage.Config{Name: "s", In: "in", Out: []stage.Output{{Channel: "out"}}}, stage.Each(upper))

	over, stopAll := context.WithCancel(t.Context())
	var rolling sync.WaitGroup
	for i := range 3 {
		rolling.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(i)))
			for over.Err() == nil {
				s, err := b.New(stage.Config{Name: "s", In: "in", Out: []stage.Output{{Channel: "out"}}, Prefetch: 1 + r.IntN(200), Workers: 1 + r.IntN(8)}, stage.Each(upper))
				if err != nil {
					t.Error(err)
					return
				}
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(r.IntN(150))*time.Millisecond)
				// Without the time to hand back what it holds, it leaves that to the others.
				if err := s.Run(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Run = %v", err)
				}
				cancel()
			}
		})
	}
	p := publisher(t, b, "in")
	rdb := srv.Client()
	stagetest.Eventually(t, "someone adopts", func() bool {
		rdb.Publish(t.Context(), "in", "probe")
		return got.all("probe!")
	})
	var bodies []string
	for i := range 1000 {
		own, bare := fmt.Sprint("own ", i), fmt.Sprint("bare ", i)
		publish(t, p, own)
		stagetest.OK(t, rdb.Publish(t.Context(), "in", bare).Err())
		bodies = append(bodies, own+"!", bare+"!")
	}
	stopAll()
	rolling.Wait()
	t.Cleanup(func() {
		arrived := got.bodies()
		for _, body := range bodies {
			if arrived[body] == 0 {
				t.Logf("%q did not arrive", body)
			}
		}
	})
	stagetest.Eventually(t, "all arrive", func() bool { return got.all(bodies...) })
	for body, n := range got.bodies() {
		if n != 1 && body != "probe!" {
			t.Errorf("%q arrived %d times, want 1", body, n)
		}
	}
	group(t, b, "in", "s", "all settled, and only who runs is known", func(g inspect.GroupStatus) bool { return settled(g) && len(g.Consumers) == 1 })
}

// What cannot work is refused when the stage is made, with the field's name.
func TestNew(t *testing.T) {
	b := open(t, &redis.Options{Addr: "127.0.0.1:1"})
	good := stage.Config{Name: "s", In: "in", Out: []stage.Output{{Channel: "out"}}}
	for name, change := range map[string]func(*stage.Config){
		"no name":           func(c *stage.Config) { c.Name = "" },
		"a name with a key": func(c *stage.Config) { c.Name = "a:b" },
		"no input":          func(c *stage.Config) { c.In = "" },
		"input as output":   func(c *stage.Config) { c.Out[0].Channel = "in" },
		"output twice":      func(c *stage.Config) { c.Out = append(c.Out, c.Out[0]) },
		"negative workers":  func(c *stage.Config) { c.Workers = -1 },
		"consumer":          func(c *stage.Config) { c.Consumer = "a b" },
	} {
		c := good
		c.Out = []stage.Output{{Channel: "out"}}
		change(&c)
		if _, err := b.New(c, stage.Each(upper)); err == nil {
			t.Errorf("New with %s: no error", name)
		}
	}
	if _, err := b.New(good, stage.Handler{}); err == nil {
		t.Error("New without a handler: no error")
	}
	if _, err := b.New(good, stage.Each(upper)); err != nil {
		t.Errorf("New = %v", err)
	}
}
