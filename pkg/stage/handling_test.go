package stage_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/redis/go-redis/v9"
)

// An event that spoils each batch it is in, by a panic or by an error for all, ends as a dead
// letter, and those that were in its batches are handled.
func TestBadEntryInBatch(t *testing.T) {
	for name, spoil := range map[string]func(in []stage.Event[string]) []stage.Result{
		"panic":           func([]stage.Event[string]) []stage.Result { panic("poison") },
		"too few results": func(in []stage.Event[string]) []stage.Result { return make([]stage.Result, len(in)-1) },
		"error for all": func(in []stage.Event[string]) []stage.Result {
			return slices.Repeat([]stage.Result{{Err: errors.New("refused")}}, len(in))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t, stagetest.Embedded(t))
			ids := publish(t, publisher(t, b, "in"), append(numbered("good ", 50), "poison")...)
			var got tally
			start(t, b, stage.Config{Name: "s", In: "in", MaxTries: 4, BackoffMin: time.Millisecond, BackoffMax: time.Millisecond},
				stage.Batch(128, func(_ context.Context, in []stage.Event[string]) []stage.Result {
					if slices.ContainsFunc(in, func(e stage.Event[string]) bool { return e.Body == "poison" }) {
						return spoil(in)
					}
					for _, e := range in {
						got.add(e.ID, e.Body)
					}
					return make([]stage.Result, len(in))
				}))
			stagetest.Eventually(t, "all are settled", func() bool {
				c, err := inspect.New(b).Status(t.Context(), "in")
				return err == nil && c.Groups[0].Backlog == 0 && c.Due == 0
			})
			got.once(t, ids[:50])
			letters, err := inspect.New(b).DeadLetters(t.Context(), "in", "", 100)
			if err != nil || len(letters) != 1 || letters[0].ID != ids[50] || letters[0].Tries != 4 {
				t.Errorf("%d dead letters, %v; want the poison alone, after 4 tries", len(letters), err)
			}
		})
	}
}

// A handler that ignores its context is given up on: its event fails, a worker takes its place, and
// what it returns in the end is nobody's any more.
func TestHandlerHangs(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b := open(t, o)
		var got tally
		start(t, b, stage.Config{Name: "end", In: "out"}, got.sink())
		hang, deadlines := make(chan struct{}), make(chan time.Duration, 100)
		returned := make(chan struct{}, 1)
		var calls atomic.Int64
		stop := start(t, b, stage.Config{Name: "s", In: "in", Out: []stage.Output{{Channel: "out"}}, Workers: 1, Timeout: time.Second, BackoffMin: time.Millisecond},
			stage.Each(func(ctx context.Context, e stage.Event[string]) (string, error) {
				at, _ := ctx.Deadline()
				deadlines <- time.Until(at)
				if e.Body == "hangs" && calls.Add(1) == 1 {
					<-hang
					defer func() { returned <- struct{}{} }()
					return "late", nil
				}
				return e.Body, nil
			}))
		p := publisher(t, b, "in")
		ids := publish(t, p, "hangs")
		stagetest.Eventually(t, "it hangs", func() bool { return calls.Load() == 1 })
		ids = append(ids, publish(t, p, numbered("", 20)...)...)
		stagetest.Eventually(t, "all arrive", func() bool { return got.len() == len(ids) })
		close(hang)
		<-returned
		ids = append(ids, publish(t, p, numbered("after ", 20)...)...)
		stagetest.Eventually(t, "what comes after arrives", func() bool { return got.len() == len(ids) })
		stop()
		if n := figure(t, b, "stage_settled_elsewhere_total", "s"); n != 0 {
			t.Errorf("%v events were settled twice", n)
		}
		got.once(t, ids)
		if body := got.body[ids[0]]; body != "hangs" || calls.Load() != 2 {
			t.Errorf("the event that hung arrived as %q after %d calls, want that of the second", body, calls.Load())
		}
		for len(deadlines) > 0 {
			if d := <-deadlines; d > 1020*time.Millisecond {
				t.Errorf("a call had %s with a timeout of 1s", d)
			}
		}
	})
}

// What is to be tried again later holds up nothing, and its tries are known to whoever tries it
// next.
func TestRetryHoldsNothing(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b := open(t, o)
		c := stage.Config{Name: "s", In: "in", Workers: 1, Prefetch: 1, BackoffMin: time.Millisecond}
		var got tally
		var third atomic.Bool
		var made atomic.Int32 // tries of the bad event: the wait may be over before the stage stops
		p := publisher(t, b, "in")
		stop := start(t, b, c, stage.Each(func(_ context.Context, e stage.Event[string]) (stage.Nothing, error) {
			if e.Body == "bad" {
				made.Add(1)
				if e.Tries >= 2 {
					third.Store(true)
					return stage.Nothing{}, stage.RetryAfter(errors.New("much later"), 2*time.Second)
				}
				return stage.Nothing{}, errors.New("soon again")
			}
			got.add(e.ID, e.Body)
			return stage.Nothing{}, nil
		}))
		bad := publish(t, p, "bad")
		stagetest.Eventually(t, "it waits for its fourth try", func() bool {
			c, err := inspect.New(b).Status(t.Context(), "in")
			return err == nil && third.Load() && c.Due == 1 && settled(c.Groups[0])
		})
		ids := publish(t, p, numbered("", 50)...)
		stagetest.Eventually(t, "the others are handled", func() bool { return got.len() == len(ids) })
		got.once(t, ids)
		stop()

		tries := make(chan int, 10)
		start(t, b, c, stage.Each(func(_ context.Context, e stage.Event[string]) (stage.Nothing, error) {
			if e.ID == bad[0] {
				tries <- e.Tries
			}
			return stage.Nothing{}, nil
		}))
		if n := <-tries; n != int(made.Load()) {
			t.Errorf("after a restart the event has %d tries, want %d", n, made.Load())
		}
	})
}

// Concurrent calls of Publish share round trips: what gathers while Redis is held up goes in as few
// scripts as hold it.
func TestPublishShares(t *testing.T) {
	srv := stagetest.Real(t)
	b := open(t, srv.Options())
	p := publisher(t, b, "in")
	publish(t, p, "first") // registers the publisher and loads the script
	rdb := srv.Client()
	stagetest.OK(t, rdb.ConfigResetStat(t.Context()).Err())
	stagetest.OK(t, rdb.Do(t.Context(), "client", "pause", 500, "write").Err())
	const n = 500
	kept := make(chan error, n)
	for range n {
		go func() {
			_, err := p.Publish(context.Background(), stage.Submission{Body: "x"})
			kept <- err
		}()
	}
	for range n {
		if err := <-kept; err != nil {
			t.Errorf("Publish = %v", err)
		}
	}
	stats, err := rdb.Info(t.Context(), "commandstats").Result()
	stagetest.OK(t, err)
	if got := rdb.XLen(t.Context(), "in").Val(); got != n+1 {
		t.Errorf("the stream has %d entries, want %d", got, n+1)
	}
	calls := regexp.MustCompile(`cmdstat_evalsha:calls=(\d+),`).FindStringSubmatch(stats)
	if calls == nil {
		t.Fatalf("no EVALSHA in\n%s", stats)
	}
	// The first call goes alone or with few, the others 128 at a time; on a busy machine some
	// come late.
	if k, err := strconv.Atoi(calls[1]); err != nil || k > n/10 {
		t.Errorf("%d submissions at once took %s scripts, want a tenth of that at most", n, calls[1])
	}
}

// A handler of one output that returns nil bytes forwards an empty message; none is forwarded only
// by one without outputs.
func TestEmptyOutput(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b := open(t, o)
		var got tally
		start(t, b, stage.Config{Name: "end", In: "out"}, got.sink())
		start(t, b, stage.Config{Name: "s", In: "in", Out: []stage.Output{{Channel: "out"}}},
			stage.Each(func(context.Context, stage.Event[string]) ([]byte, error) { return nil, nil }))
		ids := publish(t, publisher(t, b, "in"), "x")
		stagetest.Eventually(t, "it arrives", func() bool { return got.len() == 1 })
		got.once(t, ids)
		if body := got.bodies(); body[""] != 1 {
			t.Errorf("forwarded %v, want one empty message", body)
		}
	})
}

// A stage may have many outputs, and forward one message or several to any of them.
func TestManyOutputs(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b := open(t, o)
		c := stage.Config{Name: "s", In: "in"}
		channels := numbered("out-", 12)
		for _, out := range channels {
			c.Out = append(c.Out, stage.Output{Channel: out})
		}
		start(t, b, c, stage.EachTo(func(_ context.Context, e stage.Event[string]) (out []stage.Message, err error) {
			for _, channel := range channels {
				if e.Body == "all" || e.Body == channel {
					out = append(out, stage.To(channel, e.Body))
				}
			}
			return out, nil
		}))
		p := publisher(t, b, "in")
		all, each := publish(t, p, "all"), publish(t, p, channels...)
		group(t, b, "in", "s", "all are settled", settled)
		rdb := stagetest.Client(t, o)
		for i, channel := range channels {
			got := map[string]string{}
			for _, x := range rdb.XRange(t.Context(), channel, "-", "+").Val() {
				got[fmt.Sprint(x.Values["id"])] = fmt.Sprint(x.Values["payload"])
			}
			if want := map[string]string{all[0]: "all", each[i]: channel}; !maps.Equal(got, want) {
				t.Errorf("%s has %v, want %v", channel, got, want)
			}
		}
	})
}

// TestOneCore: stages that share a broker do not use up its connections on one core.
func TestOneCore(t *testing.T) {
	cores := runtime.GOMAXPROCS(1)
	b := open(t, stagetest.Real(t).Options())
	runtime.GOMAXPROCS(cores)
	var got tally
	for i := range 7 {
		start(t, b, stage.Config{Name: fmt.Sprint("stage", i), In: fmt.Sprint(i), Out: []stage.Output{{Channel: fmt.Sprint(i + 1)}}}, stage.Each(upper))
	}
	start(t, b, stage.Config{Name: "end", In: "7"}, got.sink())
	ids := publish(t, publisher(t, b, "0"), numbered("", 20)...)
	stagetest.Eventually(t, "all arrive at the eighth stage", func() bool { return got.arrived(ids) })
}
