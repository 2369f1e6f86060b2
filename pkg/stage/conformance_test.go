package stage_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/redis/go-redis/v9"
)

// open makes a broker with a short lease, so that tests of what happens after it end soon.
func open(t testing.TB, o *redis.Options, change ...func(*stage.Options)) *stage.Broker {
	t.Helper()
	opt := stage.Options{Redis: o, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Lease: time.Second}
	for _, c := range change {
		c(&opt)
	}
	b, err := stage.Open(opt)
	stagetest.OK(t, err)
	t.Cleanup(func() { b.Close() })
	return b
}

// running runs a stage until stop is called or the test ends.
func running(t testing.TB, b *stage.Broker, c stage.Config, h stage.Handler) (s *stage.Stage, stop func()) {
	t.Helper()
	s, err := b.New(c, h)
	stagetest.OK(t, err)
	return s, stagetest.Run(t, s)
}

// start is running, and waits until the stage reads.
func start(t testing.TB, b *stage.Broker, c stage.Config, h stage.Handler) (stop func()) {
	t.Helper()
	s, stop := running(t, b, c, h)
	stagetest.Eventually(t, "stage "+c.Name+" is ready", func() bool { return s.Ready() == nil })
	return stop
}

// tally counts what arrives, by event ID.
type tally struct {
	mu   sync.Mutex
	seen map[string]int
	body map[string]string
}

func (c *tally) add(id, body string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen, c.body = map[string]int{}, map[string]string{}
	}
	c.seen[id]++
	c.body[id] = body
}

// times is how often an event arrived.
func (c *tally) times(id string) int { c.mu.Lock(); defer c.mu.Unlock(); return c.seen[id] }

// arrived tells whether each of the events has.
func (c *tally) arrived(ids []string) bool {
	return !slices.ContainsFunc(ids, func(id string) bool { return c.times(id) == 0 })
}

func (c *tally) len() int { c.mu.Lock(); defer c.mu.Unlock(); return len(c.seen) }

// bodies counts deliveries by body.
func (c *tally) bodies() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]int{}
	for id, n := range c.seen {
		out[c.body[id]] += n
	}
	return out
}

func (c *tally) missing(bodies []string) (out []string) {
	there := c.bodies()
	for _, b := range bodies {
		if there[b] == 0 {
			out = append(out, b)
		}
	}
	return out
}

// all tells whether every body has arrived.
func (c *tally) all(bodies ...string) bool { return len(c.missing(bodies)) == 0 }

// eachOnce checks that each body that arrived was one event. A slow consumer may be taken to be
// gone, and its event handled again.
func (c *tally) eachOnce(t testing.TB) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := map[string]string{}
	for id, body := range c.body {
		if other, twice := ids[body]; twice {
			t.Errorf("%q arrived as the events %s and %s, want one", body, id, other)
		}
		ids[body] = id
	}
}

// sink is a stage at the end of a pipeline.
func (c *tally) sink() stage.Handler {
	return stage.Each(func(_ context.Context, e stage.Event[string]) (stage.Nothing, error) {
		c.add(e.ID, e.Body)
		return stage.Nothing{}, nil
	})
}

// once checks that exactly these IDs arrived, each once.
func (c *tally) once(t testing.TB, ids []string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		if c.seen[id] != 1 {
			t.Errorf("event %s arrived %d times, want 1", id, c.seen[id])
		}
	}
	if len(c.seen) != len(ids) {
		t.Errorf("%d events arrived, want %d", len(c.seen), len(ids))
	}
}

func publish(t testing.TB, p *stage.Publisher, bodies ...string) (ids []string) {
	t.Helper()
	for _, body := range bodies {
		r, err := p.Publish(t.Context(), stage.Submission{Body: body})
		if err != nil {
			t.Fatalf("Publish(%q) = %v", body, err)
		}
		ids = append(ids, r.ID)
	}
	return ids
}

func publisher(t testing.TB, b *stage.Broker, channel string) *stage.Publisher {
	p := b.Publisher("edge", channel)
	t.Cleanup(func() { p.Close() })
	return p
}

func numbered(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return out
}

func upper(_ context.Context, e stage.Event[string]) (string, error) { return e.Body + "!", nil }

func TestOutcomes(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b := open(t, o)
		p := publisher(t, b, "in")
		var mu sync.Mutex
		calls := map[string]int{}
		boom := errors.New("boom")
		h := stage.EachTo(func(_ context.Context, e stage.Event[string]) ([]stage.Message, error) {
			mu.Lock()
			calls[e.Body]++
			n := calls[e.Body]
			mu.Unlock()
			switch e.Body {
			case "two":
				return []stage.Message{stage.To("a", "1"), stage.To("b", "2")}, nil
			case "permanent":
				return nil, stage.Permanent(boom)
			case "always":
				return nil, boom
			case "panics":
				panic("ouch")
			case "elsewhere":
				return []stage.Message{stage.To("nowhere", "1")}, nil
			case "third":
				if n < 3 {
					return nil, boom
				}
				return []stage.Message{stage.To("a", fmt.Sprint("tries ", e.Tries))}, nil
			case "later":
				if n < 2 {
					return nil, stage.RetryAfter(boom, 30*time.Millisecond)
				}
			}
			return nil, nil
		})
		var a, bb tally
		start(t, b, stage.Config{Name: "a", In: "a"}, a.sink())
		start(t, b, stage.Config{Name: "b", In: "b"}, bb.sink())
		start(t, b, stage.Config{Name: "s", In: "in", Out: []stage.Output{{Channel: "a"}, {Channel: "b"}}, MaxTries: 3,
			BackoffMin: time.Millisecond, BackoffMax: 5 * time.Millisecond}, h)
		ids := publish(t, p, "two", "permanent", "always", "panics", "elsewhere", "third", "later", "nothing")
		stagetest.Eventually(t, "all are settled", func() bool {
			c, err := inspect.New(b).Status(t.Context(), "in")
			return err == nil && c.Groups[0].Backlog == 0 && c.Due == 0 && c.Dead == 4
		})
		stagetest.Eventually(t, "outputs arrive", func() bool { return a.len() == 2 && bb.len() == 1 })
		if got := a.body[ids[5]]; got != "tries 2" {
			t.Errorf("output of the third try = %q, want %q", got, "tries 2")
		}
		letters, err := inspect.New(b).DeadLetters(t.Context(), "in", "", 100)
		stagetest.OK(t, err)
		reasons := map[string]string{}
		for _, l := range letters {
			reasons[string(l.Payload)] = fmt.Sprintf("%s tries=%d group=%s", l.Error, l.Tries, l.Group)
		}
		want := map[string]string{
			"permanent": "boom tries=0 group=s", "always": "boom tries=3 group=s", "panics": "panic: ouch tries=3 group=s",
			"elsewhere": `the handler forwards to "nowhere", which is not an output of stage s tries=0 group=s`,
		}
		for body, reason := range want {
			if reasons[body] != reason {
				t.Errorf("dead letter of %q = %q, want %q", body, reasons[body], reason)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if calls["always"] != 3 || calls["permanent"] != 1 || calls["third"] != 3 || calls["later"] != 2 {
			t.Errorf("calls = %v", calls)
		}
	})
}

// probe publishes messages of a foreign program on "in" until one came through: the lease of
// adopting is there a moment before its marker is through.
func probe(t *testing.T, rdb *redis.Client, got *tally) {
	t.Helper()
	var sent []string
	stagetest.Eventually(t, "a bare message is adopted", func() bool {
		sent = append(sent, fmt.Sprint("probe ", time.Now().UnixNano()))
		rdb.Publish(t.Context(), "in", sent[len(sent)-1])
		return len(got.missing(sent)) < len(sent)
	})
}

// A bare PUBLISH over 64 KiB is set aside with its begin and its size, others are adopted. A dead
// letter keeps no more of any payload, and what was cut is not replayed.
func TestLarge(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		const most = 64 << 10
		rdb := stagetest.Client(t, o)
		b := open(t, o)
		var got tally
		start(t, b, stage.Config{Name: "s", In: "in"}, stage.Each(func(_ context.Context, e stage.Event[string]) (stage.Nothing, error) {
			got.add(e.ID, e.Body)
			if len(e.Body) > most {
				return stage.Nothing{}, stage.Permanent(errors.New("too long"))
			}
			return stage.Nothing{}, nil
		}))
		probe(t, rdb, &got)
		fits := strings.Repeat("f", most)
		for _, body := range []string{strings.Repeat("a", most+1), strings.Repeat("b", 10*most), fits} {
			rdb.Publish(t.Context(), "in", body)
		}
		own := publish(t, publisher(t, b, "in"), append(numbered("", 300), strings.Repeat("c", 20*most))...)
		stagetest.Eventually(t, "all others are handled", func() bool {
			return got.bodies()[fits] == 1 && got.len() >= 303
		})
		pipeline := inspect.New(b)
		var letters []inspect.DeadLetter
		stagetest.Eventually(t, "three are set aside", func() bool {
			letters, _ = pipeline.DeadLetters(t.Context(), "in", "", 10)
			return len(letters) == 3
		})
		sizes := map[string]int{"a": most + 1, "b": 10 * most, "c": 20 * most}
		for _, l := range letters {
			first := string(l.Payload[:1])
			if len(l.Payload) != most || l.Size != sizes[first] || l.Group != "s" || first == "c" && l.ID != own[300] {
				t.Errorf("dead letter of %s: %d bytes of %d, group %s, %s; want 64 KiB of %d, s", first, len(l.Payload), l.Size, l.Group, l.Error, sizes[first])
			}
			delete(sizes, first)
			if n, err := pipeline.Replay(t.Context(), "in", l.Entry); n != 0 || err != nil {
				t.Errorf("Replay of a letter that was cut = %d, %v; want 0", n, err)
			}
		}
		if len(sizes) > 0 {
			t.Errorf("no dead letters of %v", sizes)
		}
	})
}

// Another program's SET and PUBLISH on the names of adoption stop it for a lease at most. What
// cannot be true is ignored and counted.
func TestAdoptionDisturbed(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		rdb := stagetest.Client(t, o)
		b := open(t, o)
		var got tally
		start(t, b, stage.Config{Name: "s", In: "in"}, got.sink())
		probe(t, rdb, &got)
		rdb.Publish(t.Context(), "in:kept", "1000000000")
		bodies := numbered("bare ", 50)
		for _, body := range bodies {
			rdb.Publish(t.Context(), "in", body)
		}
		stagetest.Eventually(t, "all 50 are adopted", func() bool { return got.all(bodies...) })
		rdb.Publish(t.Context(), "in:kept", "5000")
		stagetest.Eventually(t, "both numbers are counted", func() bool { return figure(t, b, "stage_kept_resets_total", "s") == 2 })
		rdb.Publish(t.Context(), "in", "after")
		stagetest.Eventually(t, "adoption goes on", func() bool { return got.all("after") })
		rdb.Set(t.Context(), "in:adopter", "x", 0)
		stagetest.Eventually(t, "a stage has the lease again", func() bool { owner := rdb.Get(t.Context(), "in:adopter").Val(); return owner != "" && owner != "x" })
	})
}

// A process that stops just after another one has come hands adoption over to it, though it has not
// ticked since.
func TestAdoptionHandedOver(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		rdb := stagetest.Client(t, o)
		var got tally
		process := func() (stop func()) { // a broker of its own, as another process has
			return start(t, open(t, o), stage.Config{Name: "s", In: "in"}, got.sink())
		}
		stop := process()
		sent, inTime := 0, 0
		for try := 0; inTime < 3 && try < 20; try++ {
			probe(t, rdb, &got)
			var bodies []string
			ended := make(chan struct{})
			ctx, end := context.WithCancel(t.Context())
			go func() {
				defer close(ended)
				for ; ctx.Err() == nil; sent++ {
					body := fmt.Sprint("bare ", sent)
					if err := rdb.Publish(t.Context(), "in", body).Err(); err != nil {
						t.Error(err)
					}
					bodies = append(bodies, body)
					time.Sleep(time.Millisecond) // paces the load
				}
			}()
			next, begun := process(), time.Now()
			stop()
			took := time.Since(begun)
			stop = next
			end()
			<-ended
			if took < 3*time.Second { // else it left before its successor adopted, on a slow machine
				stagetest.Eventually(t, "all arrive", func() bool { return got.all(bodies...) })
				inTime++
			}
		}
		if inTime == 0 {
			t.Error("no successor adopted in time")
		}
	})
}

// What only adopters would hear is not published. Whoever listens, in whatever way, hears
// all of it, and what others publish meanwhile is adopted as ever.
func TestHeard(t *testing.T) {
	t.Parallel()
	server := stagetest.Real(t)
	rdb := server.Client()
	b := open(t, server.Options())
	var got tally
	start(t, b, stage.Config{Name: "s", In: "in"}, got.sink())
	stagetest.Eventually(t, "someone adopts", func() bool { c, _ := inspect.New(b).Status(t.Context(), "in"); return c.Adopted })
	probe(t, rdb, &got)
	const n, bare = 500, 50
	send := func(t *testing.T, name string) (own []string, published int64) {
		t.Helper()
		calls := func() (n int64) {
			info := rdb.InfoMap(t.Context(), "commandstats").Item("Commandstats", "cmdstat_publish")
			if _, err := fmt.Sscanf(info, "calls=%d", &n); err != nil {
				t.Fatalf("commandstats %q: %v", info, err)
			}
			return n
		}
		p, before := b.Publisher("edge", "in"), calls()
		var all sync.WaitGroup
		for _, body := range numbered(name+" own ", n) {
			own = append(own, body)
			all.Go(func() { publish(t, p, body) })
		}
		bares := numbered(name+" bare ", bare)
		for _, body := range bares {
			if err := rdb.Publish(t.Context(), "in", body).Err(); err != nil {
				t.Error(err)
			}
		}
		all.Wait()
		p.Close()
		stagetest.Eventually(t, "all arrive", func() bool { return got.all(own...) && got.all(bares...) })
		for body, times := range got.bodies() {
			if times != 1 {
				t.Errorf("%q arrived %d times, want 1", body, times)
			}
		}
		return own, calls() - before - bare
	}
	if _, published := send(t, "nobody"); published != 0 {
		t.Errorf("%d messages were published for nobody, want none", published)
	}
	for _, by := range []struct {
		name   string
		listen func() *redis.PubSub
	}{
		{"channel", func() *redis.PubSub { return rdb.Subscribe(t.Context(), "in") }},
		{"pattern", func() *redis.PubSub { return rdb.PSubscribe(t.Context(), "i*") }},
		{"replica", func() *redis.PubSub {
			replica := stagetest.Real(t, "--replicaof", "127.0.0.1", strings.TrimPrefix(server.Addr, "127.0.0.1:"))
			away := replica.Client()
			stagetest.Eventually(t, "the replica is attached", func() bool {
				return rdb.InfoMap(t.Context(), "replication").Item("Replication", "connected_slaves") == "1" &&
					away.InfoMap(t.Context(), "replication").Item("Replication", "master_link_status") == "up"
			})
			return away.Subscribe(t.Context(), "in")
		}},
	} {
		sub := by.listen()
		defer sub.Close()
		if _, err := sub.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		own, _ := send(t, by.name)
		hears(t, by.name, sub, own)
	}
}

// hears waits until all bodies have come to a subscription.
func hears(t *testing.T, name string, sub *redis.PubSub, bodies []string) {
	t.Helper()
	waiting := map[string]bool{}
	for _, body := range bodies {
		waiting[body] = true
	}
	for len(waiting) > 0 {
		m, err := sub.ReceiveTimeout(t.Context(), 10*time.Second)
		if err != nil {
			t.Fatalf("%s: %d of %d messages were not heard: %v", name, len(waiting), len(bodies), err)
		}
		if m, ok := m.(*redis.Message); ok {
			delete(waiting, m.Payload)
		}
	}
	sub.Close()
}

func TestIdempotencyAndLimits(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b := open(t, o)
		p := publisher(t, b, "in")
		first, err := p.Publish(t.Context(), stage.Submission{Body: "x", Key: "k", Digest: "d"})
		if err != nil || first.Repeat {
			t.Fatalf("first Publish = %+v, %v", first, err)
		}
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				r, err := p.Publish(t.Context(), stage.Submission{Body: "x", Key: "k", Digest: "d"})
				if err != nil || !r.Repeat || r.ID != first.ID {
					t.Errorf("repeat = %+v, %v; want the first's ID %s", r, err, first.ID)
				}
			})
		}
		wg.Wait()
		if _, err := p.Publish(t.Context(), stage.Submission{Body: "y", Key: "k", Digest: "e"}); !errors.Is(err, stage.ErrKeyReused) {
			t.Errorf("another body under the key: %v, want ErrKeyReused", err)
		}
		// A failover may lose the entry and the key; another process computes the same ID.
		rdb := stagetest.Client(t, o)
		other := publisher(t, open(t, o), "in")
		rdb.Del(t.Context(), "in", "idempotency:k")
		if r, err := other.Publish(t.Context(), stage.Submission{Body: "x", Key: "k", Digest: "d"}); err != nil || r.Repeat || r.ID != first.ID {
			t.Errorf("the same again after its key was lost = %+v, %v; want the first's ID %s", r, err, first.ID)
		}
		rdb.Del(t.Context(), "in")
		for _, x := range []stage.Submission{{Key: "k2", Digest: "d"}, {Key: "k2d"}, {Key: "k3", KeyAt: time.UnixMilli(0x0123456789ab)}} {
			x.Body = "x"
			if r, err := other.Publish(t.Context(), x); err != nil || r.ID == first.ID || !x.KeyAt.IsZero() && !strings.HasPrefix(r.ID, "01234567-89ab-8") {
				t.Errorf("Publish(%+v) = %+v, %v; want an ID of its own", x, r, err)
			}
		}
		rdb.Del(t.Context(), "in")
		if _, err := p.Publish(t.Context(), stage.Submission{ID: first.ID, Body: "z", Key: "k4"}); err == nil {
			t.Error("an ID beside a key was taken")
		}
		limit := stage.Limit{Name: "me", Max: 3, Per: time.Hour}
		formKey(t, p, other, rdb)
		rdb.Del(t.Context(), "in")
		for i := range 3 {
			if _, err := p.Publish(t.Context(), stage.Submission{Body: "z", Limits: []stage.Limit{limit}}); err != nil {
				t.Errorf("publish %d within the limit: %v", i, err)
			}
		}
		_, err = p.Publish(t.Context(), stage.Submission{Body: "z", Limits: []stage.Limit{limit}})
		var le *stage.LimitError
		if !errors.As(err, &le) || le.Retry < 19*time.Minute || le.Retry > 20*time.Minute {
			t.Errorf("publish over the limit: %v, want a LimitError with about 20 min", err)
		}
		wrongLimit(t, b, p)
		if c, err := inspect.New(b).Status(t.Context(), "in"); err != nil || c.Entries != 3 {
			t.Errorf("stream holds %d entries (%v), want 3", c.Entries, err)
		}
	})
}

// formKey: of a key whose time is known, only the event ID is kept. A repeat is one, whatever else
// would refuse it.
func formKey(t *testing.T, p, other *stage.Publisher, rdb *redis.Client) {
	t.Helper()
	form := stage.Submission{Body: "z", Key: "k5", KeyAt: time.UnixMilli(0x0123456789ab), Limits: []stage.Limit{{Name: "form", Max: 1, Per: time.Hour}}}
	accepted, err := p.Publish(t.Context(), form)
	if err != nil || accepted.Repeat {
		t.Fatalf("first form = %+v, %v", accepted, err)
	}
	if r, err := other.Publish(t.Context(), form); err != nil || !r.Repeat || r.ID != accepted.ID {
		t.Errorf("the form again = %+v, %v; want a repeat of %s", r, err, accepted.ID)
	}
	next := form
	next.Key = "k6"
	for range 2 { // what is refused is not known afterwards
		if _, err := p.Publish(t.Context(), next); !errors.As(err, new(*stage.LimitError)) {
			t.Errorf("another form over the limit: %v, want a LimitError", err)
		}
	}
	if ttl := rdb.TTL(t.Context(), "idempotency-at:01234567-8").Val(); ttl < 23*time.Hour || ttl > 24*time.Hour {
		t.Errorf("the form's key expires after %s, want 24 h", ttl)
	}
	rdb.Set(t.Context(), "idempotency-at:01234567-8", "another program's", 0)
	if _, err := p.Publish(t.Context(), stage.Submission{Body: "z", Key: "k7", KeyAt: form.KeyAt}); !errors.Is(err, stage.ErrRefused) {
		t.Errorf("a form over a key of another type: %v, want ErrRefused", err)
	}
}

// wrongLimit: a limit's key that another program has made fails the submission, and is named.
func wrongLimit(t *testing.T, b *stage.Broker, p *stage.Publisher) {
	t.Helper()
	links, err := b.Shards(t.Context())
	stagetest.OK(t, err)
	l := links[stage.ShardOf("wrong", len(links))]
	key := l.Keys.Limit("wrong")
	stagetest.OK(t, l.Client().HSet(t.Context(), key, "a", "b").Err())
	_, err = p.Publish(t.Context(), stage.Submission{Body: "z", Limits: []stage.Limit{{Name: "wrong", Max: 3, Per: time.Hour}}})
	if !errors.Is(err, stage.ErrRefused) || !strings.Contains(err.Error(), key) {
		t.Errorf("publish with a limit whose key is a hash: %v, want ErrRefused and the key", err)
	}
}
