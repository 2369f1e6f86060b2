package stage_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

// group waits for a look at one group of a channel that satisfies ok.
func group(t testing.TB, b *stage.Broker, channel, name, what string, ok func(inspect.GroupStatus) bool) {
	t.Helper()
	var last string
	defer func() {
		if t.Failed() {
			t.Logf("last seen of %s: %s", name, last)
		}
	}()
	stagetest.Eventually(t, what, func() bool {
		c, err := inspect.New(b).Status(t.Context(), channel)
		last = fmt.Sprintf("%+v, %v", c, err)
		i := slices.IndexFunc(c.Groups, func(g inspect.GroupStatus) bool { return g.Name == name })
		return err == nil && i >= 0 && ok(c.Groups[i])
	})
}

func settled(g inspect.GroupStatus) bool { return g.Backlog == 0 && g.Pending == 0 }

// A consumer that read and died has no liveness key: what it held is handled by another, once, with
// crashes raised.
func TestTakeOver(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b := open(t, o)
		stop := start(t, b, stage.Config{Name: "s", In: "in"}, (&tally{}).sink())
		stop()
		ids := publish(t, publisher(t, b, "in"), numbered("", 200)...)
		rdb := stagetest.Client(t, o)
		if _, err := rdb.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "s", Consumer: "ghost", Streams: []string{"in", ">"}, Count: 150}).Result(); err != nil {
			t.Fatal(err)
		}
		var got, out tally
		var crashes atomic.Int64
		start(t, b, stage.Config{Name: "end", In: "out"}, out.sink())
		start(t, b, stage.Config{Name: "s", In: "in", Out: []stage.Output{{Channel: "out"}}}, stage.Each(func(_ context.Context, e stage.Event[string]) (string, error) {
			got.add(e.ID, e.Body)
			crashes.Add(int64(e.Crashes))
			return e.Body, nil
		}))
		stagetest.Eventually(t, "all are forwarded", func() bool { return out.len() == 200 })
		got.once(t, ids)
		out.once(t, ids)
		if crashes.Load() != 150 {
			t.Errorf("crashes = %d, want 150: those the ghost held", crashes.Load())
		}
		group(t, b, "in", "s", "the ghost is forgotten", func(g inspect.GroupStatus) bool { return settled(g) && len(g.Consumers) == 1 })
	})
}

// A stopping stage hands back what it cannot finish, and another replica gets it at once, with no
// crash counted.
func TestHandBack(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b := open(t, o, func(o *stage.Options) { o.Lease = time.Hour })
		p := publisher(t, b, "in")
		entered := make(chan struct{}, 100)
		stop := start(t, b, stage.Config{Name: "s", In: "in", Drain: 10 * time.Millisecond, Workers: 2}, stage.Each(func(ctx context.Context, e stage.Event[string]) (stage.Nothing, error) {
			entered <- struct{}{}
			<-ctx.Done()
			return stage.Nothing{}, ctx.Err()
		}))
		ids := publish(t, p, numbered("", 20)...)
		<-entered
		var got tally
		var counts atomic.Int64
		start(t, b, stage.Config{Name: "s", In: "in"}, stage.Each(func(_ context.Context, e stage.Event[string]) (stage.Nothing, error) {
			got.add(e.ID, e.Body)
			counts.Add(int64(e.Tries + e.Crashes))
			return stage.Nothing{}, nil
		}))
		stop()
		stagetest.Eventually(t, "the other replica has them all, long before the lease is over", func() bool { return got.len() == len(ids) })
		got.once(t, ids)
		if counts.Load() != 0 {
			t.Errorf("tries and crashes = %d, want 0", counts.Load())
		}
	})
}

// An outage of what the handler depends on pauses the stage: nothing is counted, nothing is lost,
// and it goes on by itself.
func TestPause(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b := open(t, o)
		var up atomic.Bool
		var got tally
		var tries, calls atomic.Int64
		c := stage.Config{Name: "s", In: "in", MaxTries: 1, Probe: func(context.Context) error {
			if up.Load() {
				return nil
			}
			return errors.New("store: connection refused")
		}}
		h := stage.Each(func(_ context.Context, e stage.Event[string]) (stage.Nothing, error) {
			calls.Add(1)
			if !up.Load() {
				return stage.Nothing{}, errors.New("insert: connection refused")
			}
			tries.Add(int64(e.Tries))
			got.add(e.ID, e.Body)
			return stage.Nothing{}, nil
		})
		s, _ := running(t, b, c, h)
		ids := publish(t, publisher(t, b, "in"), numbered("", 50)...)
		stagetest.Eventually(t, "the stage says why it does not work", func() bool {
			err := s.Ready()
			return err != nil && strings.Contains(err.Error(), "paused: store: connection refused")
		})
		during := calls.Load()
		if n := figure(t, b, "stage_paused", "s"); n != 1 {
			t.Errorf("stage_paused = %v, want 1", n)
		}
		stagetest.Eventually(t, "the backlog and its age are told", func() bool {
			return figure(t, b, "stage_backlog_entries", "s") == 50 && figure(t, b, "stage_oldest_unsettled_seconds", "s") > 0
		})
		up.Store(true)
		stagetest.Eventually(t, "all are handled", func() bool { return got.len() == len(ids) })
		got.once(t, ids)
		if tries.Load() != 0 || during > 64 {
			t.Errorf("tries = %d, want 0; calls while down = %d, want one per worker at most", tries.Load(), during)
		}
		if n, err := inspect.New(b).DeadCount(t.Context(), "in"); n != 0 || err != nil {
			t.Errorf("dead letters = %d, %v, want none", n, err)
		}
		stagetest.Eventually(t, "ready again", func() bool { return s.Ready() == nil })
		if n := figure(t, b, "stage_paused", "s"); n != 0 {
			t.Errorf("stage_paused = %v, want 0 again", n)
		}
	})
}

// An event whose own dependency is down, which pauses the stage again and again, does not keep the
// others from being handled.
func TestPauseForOne(t *testing.T) {
	for name, crashes := range map[string]string{"in turn": "0", "alone": "2"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := stagetest.Embedded(t)
			b := open(t, o)
			var got tally
			start(t, b, stage.Config{Name: "s", In: "in", Workers: 1}, stage.Each(func(_ context.Context, e stage.Event[string]) (stage.Nothing, error) {
				if e.Body == "down" {
					return stage.Nothing{}, stage.Down(errors.New("its own store is away"))
				}
				got.add(e.ID, e.Body)
				return stage.Nothing{}, nil
			}))
			rdb := stagetest.Client(t, o)
			stagetest.OK(t, rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: "in", Values: []string{"payload", "down", "crashes", crashes}}).Err())
			stagetest.Eventually(t, "the stage is paused", func() bool { return figure(t, b, "stage_paused", "s") == 1 })
			ids := publish(t, publisher(t, b, "in"), numbered("", 50)...)
			stagetest.Eventually(t, "the others are handled", func() bool { return got.len() == len(ids) })
			got.once(t, ids)
		})
	}
}

// A clock that was ahead, then a deleted stream: the group's floor is above all IDs to come, and is
// not believed, neither where the group is made nor where the stream is trimmed.
func TestLostGroupFloorAhead(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b := open(t, o, func(o *stage.Options) { o.MaxBacklog = 3 })
		rdb := stagetest.Client(t, o)
		const ahead = "9999999999999-0"
		var got tally
		stop := start(t, b, stage.Config{Name: "s", In: "in"}, got.sink())
		rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: "in", ID: ahead, Values: []string{"payload", "early"}})
		stagetest.Eventually(t, "the floor is stored", func() bool { return rdb.HGet(t.Context(), "in:floors", "s").Val() == ahead })
		stop()
		rdb.Del(t.Context(), "in")
		p := publisher(t, b, "in")
		var ids []string
		for {
			r, err := p.Publish(t.Context(), stage.Submission{Body: "x"})
			if errors.Is(err, stage.ErrBacklog) { // it has trimmed what it could
				break
			}
			stagetest.OK(t, err)
			ids = append(ids, r.ID)
		}
		var after tally
		start(t, b, stage.Config{Name: "s", In: "in"}, after.sink())
		stagetest.Eventually(t, "what came later is handled", func() bool { return after.len() == len(ids) })
		after.once(t, ids)
	})
}

func TestLostGroupAndFlush(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b := open(t, o)
		p := publisher(t, b, "in")
		var got tally
		start(t, b, stage.Config{Name: "s", In: "in"}, got.sink())
		rdb := stagetest.Client(t, o)
		ids := publish(t, p, numbered("", 30)...)
		group(t, b, "in", "s", "all settled", settled)
		stagetest.Eventually(t, "the floor is stored", func() bool {
			last, _ := rdb.XInfoStream(t.Context(), "in").Result()
			floor, _ := rdb.HGet(t.Context(), "in:floors", "s").Result()
			return last != nil && floor == last.LastGeneratedID
		})
		stagetest.OK(t, rdb.XGroupDestroy(t.Context(), "in", "s").Err())
		ids = append(ids, publish(t, p, numbered("", 30)...)...)
		stagetest.Eventually(t, "the group is made anew and works", func() bool { return got.len() == 60 })
		got.once(t, ids) // from its floor: nothing settled comes again

		stagetest.OK(t, rdb.FlushAll(t.Context()).Err())
		ids = append(ids, publish(t, p, numbered("", 30)...)...)
		stagetest.Eventually(t, "it works after FLUSHALL", func() bool { return got.len() == 90 })
		got.once(t, ids)
	})
}

// An optional group that nobody runs costs no refusal and no memory without bound; its loss is
// counted.
func TestOptionalGroupAway(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		const most = 300
		b := open(t, o, func(o *stage.Options) { o.MaxBacklog = most })
		var late, got tally
		start(t, b, stage.Config{Name: "weather", In: "in", Optional: true}, late.sink())()
		start(t, b, stage.Config{Name: "s", In: "in"}, got.sink())
		p := publisher(t, b, "in")
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range most / 2 {
					for {
						_, err := p.Publish(t.Context(), stage.Submission{Body: "x"})
						if err == nil {
							break
						}
						if !errors.Is(err, stage.ErrBacklog) { // the required group itself may be a moment behind
							t.Errorf("Publish = %v", err)
							return
						}
						time.Sleep(time.Millisecond) // paces the load
					}
				}
			})
		}
		wg.Wait()
		stagetest.Eventually(t, "the required group has all", func() bool { return got.len() == 4*most })
		group(t, b, "in", "weather", "the loss is counted", func(g inspect.GroupStatus) bool { return g.Lost >= 2*most && g.Backlog <= 2*most })
		if _, err := p.Publish(t.Context(), stage.Submission{Body: "x"}); err != nil {
			t.Errorf("Publish = %v, want no refusal for an optional group", err)
		}
		c, err := inspect.New(b).Status(t.Context(), "in")
		if err != nil || c.Entries > 2*most {
			t.Errorf("the stream holds %d entries (%v), want at most %d", c.Entries, err, 2*most)
		}
		start(t, b, stage.Config{Name: "weather", In: "in", Optional: true}, late.sink())
		group(t, b, "in", "weather", "it catches up with what is left", settled)
		if late.len() == 0 {
			t.Error("the optional group got nothing of what was left")
		}
	})
}

// With no group at all, a listener is the reader: nothing is refused. Without one, the edge
// refuses.
func TestNobodyReads(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		const most = 200
		b := open(t, o, func(o *stage.Options) { o.MaxBacklog = most })
		p := publisher(t, b, "in")
		publish(t, p, numbered("", most)...)
		if _, err := p.Publish(t.Context(), stage.Submission{Body: "x"}); !errors.Is(err, stage.ErrBacklog) {
			t.Fatalf("Publish over MaxBacklog with nobody there = %v, want ErrBacklog", err)
		}
		rdb := stagetest.Client(t, o)
		sub := rdb.Subscribe(t.Context(), "in")
		defer sub.Close()
		if _, err := sub.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		publish(t, p, numbered("", 3*most)...)
		if c, err := inspect.New(b).Status(t.Context(), "in"); err != nil || c.Entries > 2*most {
			t.Errorf("the stream holds %d entries (%v), want at most %d", c.Entries, err, 2*most)
		}
	})
}

func TestDeadLetters(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b := open(t, o)
		var good atomic.Bool
		var got, bystander tally
		start(t, b, stage.Config{Name: "other", In: "in"}, bystander.sink())
		start(t, b, stage.Config{Name: "s", In: "in"}, stage.Each(func(_ context.Context, e stage.Event[string]) (stage.Nothing, error) {
			if !good.Load() {
				return stage.Nothing{}, stage.Permanent(errors.New("no\ngood"))
			}
			got.add(e.ID, e.Body)
			return stage.Nothing{}, nil
		}))
		ids := publish(t, publisher(t, b, "in"), "a", "b", "c")
		stagetest.Eventually(t, "three dead letters", func() bool { n, _ := inspect.New(b).DeadCount(t.Context(), "in"); return n == 3 })
		letters, err := inspect.New(b).DeadLetters(t.Context(), "in", "", 2)
		if err != nil || len(letters) != 2 {
			t.Fatalf("DeadLetters(2) = %d letters, %v", len(letters), err)
		}
		rest, err := inspect.New(b).DeadLetters(t.Context(), "in", letters[1].Entry, 2)
		if err != nil || len(rest) != 1 {
			t.Fatalf("DeadLetters(after the second) = %d letters, %v", len(rest), err)
		}
		l, err := inspect.New(b).DeadLetter(t.Context(), "in", letters[0].Entry)
		if err != nil || l.Error != "no\ngood" || l.Group != "s" || l.At.IsZero() || l.Dead.IsZero() || !slices.Contains(ids, l.ID) {
			t.Errorf("DeadLetter = %+v, %v", l, err)
		}
		if n, err := inspect.New(b).Drop(t.Context(), "in", rest[0].Entry); n != 1 || err != nil {
			t.Errorf("Drop = %d, %v", n, err)
		}
		if _, err := inspect.New(b).DeadLetter(t.Context(), "in", rest[0].Entry); !errors.Is(err, stage.ErrNotFound) {
			t.Errorf("a dropped letter: %v, want ErrNotFound", err)
		}
		good.Store(true)
		if n, err := inspect.New(b).Replay(t.Context(), "in", letters[0].Entry, letters[1].Entry, "1-1"); n != 2 || err != nil {
			t.Errorf("Replay = %d, %v", n, err)
		}
		stagetest.Eventually(t, "the replayed are handled", func() bool { return got.len() == 2 })
		group(t, b, "in", "other", "the other group settles them unseen", settled)
		bystander.once(t, ids) // once each: a replay is for the failed group only
	})
}

// Another program's group on a stream: nothing is trimmed before it is acked, up to MaxBacklog,
// after AwaitGroup without that limit, and after IgnoreGroup at once.
func TestForeignGroup(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b := open(t, o, func(o *stage.Options) { o.MaxBacklog, o.KeepEntries = 250, 50 })
		rdb := stagetest.Client(t, o)
		var got tally
		start(t, b, stage.Config{Name: "s", In: "in", Out: []stage.Output{{Channel: "news", Unread: true}}}, stage.Each(func(ctx context.Context, e stage.Event[string]) (string, error) {
			got.add(e.ID, e.Body)
			return e.Body, nil
		}))
		p := publisher(t, b, "in")
		more := func(n int) {
			t.Helper()
			var all sync.WaitGroup
			want := got.len() + n
			for range n {
				all.Go(func() { publish(t, p, "x") })
			}
			all.Wait()
			stagetest.Eventually(t, "the stage has settled them", func() bool { return got.len() == want })
			group(t, b, "in", "s", "all is settled", settled)
		}
		kept := func(channel string, ok func(n int64) bool) {
			t.Helper()
			stagetest.Eventually(t, "only what it may miss is trimmed from "+channel, func() bool { return ok(rdb.XLen(t.Context(), channel).Val()) })
		}
		more(1)
		for _, channel := range []string{"in", "news"} {
			stagetest.OK(t, rdb.XGroupCreate(t.Context(), channel, "audit", "$").Err())
		}
		pipeline := inspect.New(b)
		foreign := func(channel string) inspect.Foreign {
			t.Helper()
			c, err := pipeline.Status(t.Context(), channel)
			if err != nil || len(c.Foreign) != 1 || c.Foreign[0].Name != "audit" {
				t.Fatalf("Status(%s) = %+v, %v; want audit as a foreign group", channel, c, err)
			}
			return c.Foreign[0]
		}
		more(225)
		time.Sleep(1100 * time.Millisecond) // a tick has passed
		for _, channel := range []string{"in", "news"} {
			if n := rdb.XLen(t.Context(), channel).Val(); n < 225 {
				t.Errorf("%s has %d entries, want the 225 that audit has not acked", channel, n)
			}
			if f := foreign(channel); f.Policy != "" || f.Backlog == 0 || f.Lost != 0 {
				t.Errorf("audit on %s = %+v; want a backlog, nothing lost, no policy", channel, f)
			}
		}
		more(150) // it never blocks publishing
		kept("in", func(n int64) bool { return n <= 275 && foreign("in").Lost > 0 })
		stagetest.OK(t, pipeline.AwaitGroup(t.Context(), "in", "audit"))
		stagetest.Eventually(t, "publishing waits for it", func() bool {
			_, err := p.Publish(t.Context(), stage.Submission{Body: "x"})
			return errors.Is(err, stage.ErrBacklog)
		})
		stagetest.OK(t, pipeline.IgnoreGroup(t.Context(), "in", "audit"))
		kept("in", func(n int64) bool { return n <= 50 })
		for name, want := range map[string]error{"s": inspect.ErrStage, "nobody": stage.ErrNotFound} {
			if err := pipeline.IgnoreGroup(t.Context(), "in", name); !errors.Is(err, want) {
				t.Errorf("IgnoreGroup(%s) = %v, want %v", name, err, want)
			}
		}
	})
}

// A key of another type, of all that a script may write, stops the stage before it acks anything.
// The stage says which key it is, and goes on when that is mended.
func TestWrongKey(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		rdb := stagetest.Client(t, o)
		for i, key := range []string{"in:groups", "stages", "in:due", "in:dead", "in:floors", "in:adopter", "heard", "out", "out:groups", "out:floors", "out:due"} {
			prefix := fmt.Sprintf("%d:", i)
			b := open(t, o, func(o *stage.Options) { o.Prefix = prefix })
			var spoil sync.Once
			put := func() {
				if _, err := rdb.TxPipelined(t.Context(), func(tx redis.Pipeliner) error {
					tx.Del(t.Context(), prefix+key)
					tx.SAdd(t.Context(), prefix+key, "another program's")
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
			s, err := b.New(stage.Config{Name: "s", In: "in", Out: []stage.Output{{Channel: "out"}}, BackoffMin: time.Millisecond, BackoffMax: time.Millisecond},
				stage.Each(func(ctx context.Context, e stage.Event[string]) (string, error) {
					spoil.Do(put) // before anything is settled
					switch {
					case e.Body == "dead":
						return "", stage.Permanent(errors.New("no"))
					case e.Body == "retry" && e.Tries == 0:
						return "", errors.New("not now")
					}
					return upper(ctx, e)
				}))
			stagetest.OK(t, err)
			p := publisher(t, b, "in")
			ids := publish(t, p, "good", "retry", "dead")
			if i < 2 { // the stage joins with it
				spoil.Do(put)
			}
			stop := stagetest.Run(t, s)
			want := fmt.Sprintf("the key %s%s is a set, not a ", prefix, key)
			stagetest.Eventually(t, "the stage says "+want, func() bool {
				err := s.Ready()
				return err != nil && strings.Contains(err.Error(), want)
			})
			if _, err := inspect.New(b).Overview(t.Context()); key == "stages" && (err == nil || !strings.Contains(err.Error(), "the key "+prefix+key)) {
				t.Errorf("Overview = %v, want an error that names the key %s%s", err, prefix, key)
			}
			if strings.HasPrefix(key, "in:") {
				if c, err := inspect.New(b).Status(t.Context(), "in"); err != nil || len(c.Wrong) != 1 || !strings.HasPrefix(c.Wrong[0], want) {
					t.Errorf("Status = %+v, %v; want %q", c, err, want)
				}
				if _, err := p.Publish(t.Context(), stage.Submission{Body: "x"}); i != 3 && i != 5 && !errors.Is(err, stage.ErrRefused) {
					t.Errorf("Publish with a wrong %s = %v, want ErrRefused", key, err)
				}
			}
			rdb.Del(t.Context(), prefix+key)
			var got tally
			end := start(t, b, stage.Config{Name: "end", In: "out"}, got.sink())
			stagetest.Eventually(t, "all arrive in spite of "+key, func() bool { return got.all("good!", "retry!") })
			stagetest.Eventually(t, "the dead letter is there", func() bool { n, _ := inspect.New(b).DeadCount(t.Context(), "in"); return n == 1 })
			for _, id := range ids[:2] {
				if n := got.times(id); n != 1 {
					t.Errorf("%s: event %s arrived %d times, want 1", key, id, n)
				}
			}
			end()
			stop()
		}
	})
}

// TestReadyText: what a stage waits for is said once, and a refused read names its stream.
func TestReadyText(t *testing.T) {
	o := stagetest.Embedded(t)
	rdb := stagetest.Client(t, o)
	b := open(t, o)
	s, err := b.New(stage.Config{Name: "s", In: "in"}, (&tally{}).sink())
	stagetest.OK(t, err)
	stagetest.Run(t, s)
	stagetest.Eventually(t, "it works", func() bool { return s.Ready() == nil })
	stagetest.OK(t, rdb.Set(t.Context(), "in", "another program's", 0).Err())
	stagetest.Eventually(t, "it says why it does not", func() bool {
		err := s.Ready()
		return err != nil && (strings.HasPrefix(err.Error(), "read in: redis refuses: WRONGTYPE") || strings.HasPrefix(err.Error(), "redis refuses: WRONGKEY the key in is a string"))
	})
	stagetest.OK(t, rdb.Del(t.Context(), "in").Err())
	stagetest.Eventually(t, "it works again", func() bool { return s.Ready() == nil })
}

// An output that takes no entry although it is a stream: what was acked for it is pending again,
// what the same event forwarded elsewhere is taken back, and all goes on when that is mended.
func TestForwardRefused(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b := open(t, o)
		rdb := stagetest.Client(t, o)
		const last = "18446744073709551615-18446744073709551615" // no ID is greater
		stagetest.OK(t, rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: "b", ID: last, Values: []string{"x", "y"}}).Err())
		ids := publish(t, publisher(t, b, "in"), append(numbered("both ", 20), numbered("b ", 20)...)...)
		s, err := b.New(stage.Config{Name: "s", In: "in", Out: []stage.Output{{Channel: "a"}, {Channel: "b"}}},
			stage.EachTo(func(_ context.Context, e stage.Event[string]) ([]stage.Message, error) {
				if strings.HasPrefix(e.Body, "b ") {
					return []stage.Message{stage.To("b", e.Body)}, nil
				}
				return []stage.Message{stage.To("a", e.Body), stage.To("b", e.Body)}, nil
			}))
		stagetest.OK(t, err)
		stagetest.Run(t, s)
		stagetest.Eventually(t, "the stage says why", func() bool {
			err := s.Ready()
			return err != nil && strings.Contains(err.Error(), "forwarding: ")
		})
		group(t, b, "in", "s", "all are pending", func(g inspect.GroupStatus) bool { return g.Pending == 40 && g.Backlog == 40 })
		if n := rdb.XLen(t.Context(), "a").Val(); n != 0 {
			t.Errorf("%d entries were forwarded to one output and not to the other", n)
		}
		stagetest.OK(t, rdb.Del(t.Context(), "b").Err())
		var a, bb tally
		start(t, b, stage.Config{Name: "a", In: "a"}, a.sink())
		start(t, b, stage.Config{Name: "b", In: "b"}, bb.sink())
		stagetest.Eventually(t, "all arrive", func() bool { return a.len() == 20 && bb.len() == 40 })
		a.once(t, ids[:20])
		bb.once(t, ids)
		stagetest.Eventually(t, "ready again", func() bool { return s.Ready() == nil })
		group(t, b, "in", "s", "all are settled", settled)
	})
}

// Rubbish is set aside with its reason, and good entries beside it are handled.
func TestBadEntryRubbish(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		type payload struct {
			N int `json:"n"`
		}
		b := open(t, o)
		rdb := stagetest.Client(t, o)
		var got tally
		start(t, b, stage.Config{Name: "s", In: "in"}, stage.Each(func(_ context.Context, e stage.Event[payload]) (stage.Nothing, error) {
			got.add(e.ID, fmt.Sprint(e.Body.N))
			return stage.Nothing{}, nil
		}))
		p := publisher(t, b, "in")
		big := `{"n":3,"more":"` + strings.Repeat("x", 1<<20) + `"}`
		for _, raw := range []string{`{"n":1}`, "", "nonsense", "\x00\xff\xfe", `{"n":"two"}`, `{"n":2,"unknown":[1]}`, big, "[]"} {
			publish(t, p, raw)
		}
		stagetest.OK(t, rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: "in", Values: []string{"n", "5", "odd", "\xff"}}).Err())
		stagetest.OK(t, rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: "in", Values: []string{"payload", `{"n":4}`}}).Err())
		group(t, b, "in", "s", "all settled", settled)
		letters, err := inspect.New(b).DeadLetters(t.Context(), "in", "", 10)
		if len(letters) != 6 || err != nil {
			t.Fatalf("dead letters = %+v, %v, want 6", letters, err)
		}
		if !slices.ContainsFunc(letters, func(l inspect.DeadLetter) bool {
			return string(l.Payload) == `{"n":"5","odd (base64)":"/w=="}` && strings.Contains(l.Error, "no field payload")
		}) {
			t.Errorf("dead letters: %+v; want one with the fields of the entry without payload", letters)
		}
		if m := got.missing([]string{"1", "2", "3", "4"}); len(m) > 0 || got.len() != 4 {
			t.Errorf("handled %v, missing %v", got.bodies(), m)
		}
	})
}

// An entry whose body is gone while it was pending becomes a tombstone. (The embedded Redis forgets
// such an entry.)
func TestBadEntryTombstone(t *testing.T) {
	o := stagetest.Real(t).Options()
	b := open(t, o)
	start(t, b, stage.Config{Name: "s", In: "in"}, (&tally{}).sink())()
	publish(t, publisher(t, b, "in"), "a", "b")
	rdb := stagetest.Client(t, o)
	r, err := rdb.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "s", Consumer: "ghost", Streams: []string{"in", ">"}}).Result()
	stagetest.OK(t, err)
	stagetest.OK(t, rdb.XDel(t.Context(), "in", r[0].Messages[0].ID).Err())
	var got tally
	start(t, b, stage.Config{Name: "s", In: "in"}, got.sink())
	stagetest.Eventually(t, "the other is handled", func() bool { return got.len() == 1 })
	group(t, b, "in", "s", "all settled", settled)
	letters, err := inspect.New(b).DeadLetters(t.Context(), "in", "", 10)
	if err != nil || len(letters) != 1 || !strings.Contains(letters[0].Error, "no longer in the stream") {
		t.Errorf("dead letters = %+v, %v, want one that says the body is gone", letters, err)
	}
}

// Room in Redis is for events. While none waits, no submission is refused, however much progress
// and however many keys earlier ones left. Both are gone before events that wait fill it.
func TestFullOfProgress(t *testing.T) {
	t.Parallel()
	srv := stagetest.Real(t, "--maxmemory", "6mb", "--maxmemory-policy", "noeviction")
	rdb := srv.Client()
	stagetest.OK(t, rdb.Set(t.Context(), "idempotency-mine", "another program's", 0).Err()) // now: later it may be full
	b := open(t, srv.Options())
	p := publisher(t, b, "in")
	body := "ada@example.com"
	submit := func(n int) (stage.Submission, error) {
		s := stage.Submission{Body: body, Track: true, Key: fmt.Sprint("form:", strings.Repeat("k", 24), n), KeyAt: time.Now()}
		_, err := p.Publish(t.Context(), s)
		return s, err
	}
	stop := start(t, b, stage.Config{Name: "s", In: "in"}, (&tally{}).sink())
	const round = 2000
	for n := 0; n < 20*round; n += round { // 10 MB of progress and keys
		var g errgroup.Group
		g.SetLimit(100)
		for i := range round {
			g.Go(func() error { _, err := submit(n + i); return err })
		}
		if err := g.Wait(); err != nil {
			t.Fatalf("refused after %d that are settled: %v", n, err)
		}
		group(t, b, "in", "s", "all settled", settled)
	}
	last, err := submit(-1)
	stagetest.OK(t, err)
	r, err := p.Publish(t.Context(), last)
	if err != nil || !r.Repeat {
		t.Errorf("the newest key: %+v, %v; want that it is known", r, err)
	}
	if steps, err := b.Progress(t.Context(), r.ID); err != nil || len(steps) == 0 || time.Since(steps[0].At).Abs() > 5*time.Minute {
		t.Errorf("the newest progress is %v, %v", steps, err)
	}
	stop()
	body = strings.Repeat("x", 4000)
	for n := 0; ; n++ {
		_, err := submit(20*round + n)
		if errors.Is(err, stage.ErrRefused) {
			break
		}
		if err != nil || n > 10*round {
			t.Fatalf("number %d that waits: %v", n, err)
		}
	}
	if v, err := rdb.Get(t.Context(), "idempotency-mine").Result(); err != nil || v != "another program's" {
		t.Errorf("to make room, the key idempotency-mine of another program was dropped: %q, %v", v, err)
	}
	known := int64(0)
	for _, key := range rdb.Keys(t.Context(), "idempotency-at:*").Val() {
		known += rdb.HLen(t.Context(), key).Val()
	}
	if keys := rdb.Keys(t.Context(), "*:?*").Val(); len(keys) > 1000 || known > 1000 { // of 40,000; those left are found by chance
		t.Errorf("a submission was refused with %d keys in Redis, such as %q, and %d idempotency keys", len(keys), keys[0], known)
	}
}

// Processes that die on one entry: it ends as a dead letter, and the bystanders are all handled. So
// it is with a lasting consumer, whose entries nobody else takes up.
func TestBadEntryKills(t *testing.T) {
	for name, consumer := range map[string]string{"replicas": "", "lasting": "journal-1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := stagetest.Real(t)
			b := open(t, srv.Options())
			start(t, b, stage.Config{Name: "s", In: "in", Consumer: consumer}, (&tally{}).sink())()
			var got tally
			start(t, b, stage.Config{Name: "end", In: "out"}, got.sink())
			ids := publish(t, publisher(t, b, "in"), append(numbered("good ", 30), "poison")...)
			deaths := 0
			for end := time.Now().Add(time.Minute); ; {
				if n, _ := inspect.New(b).DeadCount(t.Context(), "in"); n > 0 {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("no dead letter within a minute, after %d deaths", deaths)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestBadEntryChild$")
				cmd.Env = append(os.Environ(), "STAGE_CHILD="+srv.Addr, "STAGE_CONSUMER="+consumer)
				if err := cmd.Run(); err != nil {
					deaths++
				}
				cancel()
			}
			stagetest.Eventually(t, "the bystanders arrive", func() bool { return got.len() == 30 })
			got.once(t, ids[:30])
			letters, err := inspect.New(b).DeadLetters(t.Context(), "in", "", 10)
			if err != nil || len(letters) != 1 || string(letters[0].Payload) != "poison" || letters[0].Crashes < 3 {
				t.Errorf("dead letters = %+v, %v, want the poison alone, with its crashes", letters, err)
			}
			t.Logf("%d processes died", deaths)
			rdb := srv.Client()
			if consumer != "" {
				stagetest.Eventually(t, "its starts are forgotten", func() bool { return !rdb.HExists(t.Context(), "in:groups", "starts:s:"+consumer).Val() })
			}
		})
	}
}

// TestBadEntryChild is the process that TestBadEntryKills starts: it dies on the poison, after a
// while, and ends when a dead letter is there.
func TestBadEntryChild(t *testing.T) {
	addr := os.Getenv("STAGE_CHILD")
	if addr == "" {
		t.Skip("only as a child of TestBadEntryKills")
	}
	b := open(t, &redis.Options{Addr: addr}, func(o *stage.Options) { o.Lease = 500 * time.Millisecond })
	c := stage.Config{Name: "s", In: "in", Consumer: os.Getenv("STAGE_CONSUMER"), Out: []stage.Output{{Channel: "out"}}}
	start(t, b, c, stage.Each(func(_ context.Context, e stage.Event[string]) (string, error) {
		if e.Body == "poison" {
			time.Sleep(50 * time.Millisecond) // others are in hand by then
			os.Exit(9)
		}
		return e.Body, nil
	}))
	stagetest.Eventually(t, "a dead letter", func() bool { n, _ := inspect.New(b).DeadCount(t.Context(), "in"); return n > 0 })
}

// An entry that was handled alone and waits for a dependency to come back is not what a process
// dies of meanwhile.
func TestAloneAndPaused(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b := open(t, o)
		rdb := stagetest.Client(t, o)
		noted := func() bool {
			return slices.ContainsFunc(rdb.HKeys(t.Context(), "in:groups").Val(), func(field string) bool { return strings.HasPrefix(field, "alone:s:") })
		}
		var up, during atomic.Bool
		var got tally
		start(t, b, stage.Config{Name: "s", In: "in", Probe: func(context.Context) error {
			if up.Load() {
				return nil
			}
			return errors.New("away")
		}}, stage.Each(func(_ context.Context, e stage.Event[string]) (stage.Nothing, error) {
			during.Store(noted())
			if !up.Load() {
				return stage.Nothing{}, stage.Down(errors.New("away"))
			}
			got.add(e.ID, e.Body)
			return stage.Nothing{}, nil
		}))
		stagetest.OK(t, rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: "in", Values: []string{"payload", "x", "id", "y", "crashes", "4"}}).Err())
		stagetest.Eventually(t, "the stage is paused", func() bool { return figure(t, b, "stage_paused", "s") == 1 })
		if !during.Load() {
			t.Error("nothing was noted while the entry was handled alone")
		}
		stagetest.Eventually(t, "the note is taken back", func() bool { return !noted() })
		up.Store(true)
		stagetest.Eventually(t, "it is handled", func() bool { return got.len() == 1 })
	})
}

// What a lasting consumer held is its own, however long it is away, until an operator gives it up;
// then it comes first.
func TestLastingConsumer(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b := open(t, o)
		c := stage.Config{Name: "s", In: "in", Consumer: "journal-1", Drain: time.Millisecond}
		entered := make(chan struct{}, 100)
		stuck := stage.Each(func(ctx context.Context, e stage.Event[string]) (stage.Nothing, error) {
			entered <- struct{}{}
			<-ctx.Done()
			return stage.Nothing{}, ctx.Err()
		})
		p := publisher(t, b, "in")
		stop := start(t, b, c, stuck)
		ids := publish(t, p, numbered("", 5)...)
		<-entered
		group(t, b, "in", "s", "it holds all five", func(g inspect.GroupStatus) bool { return g.Pending == 5 && g.Consumers[0].State == "alive" })
		stop()
		var other, own tally
		stopOther := start(t, b, stage.Config{Name: "s", In: "in"}, other.sink())
		group(t, b, "in", "s", "it counts as away", func(g inspect.GroupStatus) bool {
			return slices.ContainsFunc(g.Consumers, func(c inspect.ConsumerStatus) bool {
				return c.Name == "journal-1" && c.State == "away" && c.Pending == 5
			})
		})
		more := publish(t, p, numbered("more ", 5)...)
		stagetest.Eventually(t, "another replica works on what is new", func() bool { return other.len() == 5 })
		other.once(t, more)
		stopOther()
		stop = start(t, b, c, own.sink())
		stagetest.Eventually(t, "it takes up what it held", func() bool { return own.len() == 5 })
		own.once(t, ids)
		stop()

		stop = start(t, b, c, stuck)
		lost := publish(t, p, numbered("lost ", 3)...)
		group(t, b, "in", "s", "it holds all three", func(g inspect.GroupStatus) bool { return g.Pending == 3 })
		stop()
		if n, err := inspect.New(b).Claim(t.Context(), "in", "s", "journal-1"); n != 3 || err != nil {
			t.Errorf("Claim = %d, %v, want 3", n, err)
		}
		var heir tally
		start(t, b, stage.Config{Name: "s", In: "in"}, heir.sink())
		stagetest.Eventually(t, "what was claimed goes to whoever reads", func() bool { return heir.len() == 3 })
		heir.once(t, lost)
	})
}
