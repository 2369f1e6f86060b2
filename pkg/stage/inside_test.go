package stage

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/internal/entry"
	"github.com/milepost/milepost/pkg/stage/internal/script"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// stageOf makes a stage that has joined its group and does not run.
func stageOf(t *testing.T, o *redis.Options) *lane {
	t.Helper()
	s, err := brokerOf(t, o).New(Config{Name: "s", In: "in"}, Each(func(context.Context, Event[string]) (Nothing, error) { return Nothing{}, nil }))
	stagetest.OK(t, err)
	stagetest.OK(t, s.meet(t.Context()))
	l := s.all()[0]
	if _, err := l.join(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	return l
}

// afterRead is a hook that calls f when a reply of XREADGROUP has come.
type afterRead func()

func (f afterRead) DialHook(next redis.DialHook) redis.DialHook { return next }
func (f afterRead) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (f afterRead) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if cmd.Name() == "xreadgroup" {
			f()
		}
		return err
	}
}

// An entry in hand that is settled while a reply with it travels is not taken for a new one. What
// else is pending is new.
func TestSettledDuringReplay(t *testing.T) {
	s := stageOf(t, stagetest.Embedded(t))
	rdb := s.link.Client()
	add := func() {
		t.Helper()
		stagetest.OK(t, rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: "in", Values: []string{"payload", "x"}}).Err())
	}
	conn := rdb.Conn()
	defer conn.Close()
	add()
	first, err := s.read(t.Context(), conn, 0, ">", 10, 0)
	if err != nil || len(first) != 1 {
		t.Fatalf("read: %d entries, %v", len(first), err)
	}
	s.accept(first)
	add()
	if _, err := s.read(t.Context(), conn, 0, ">", 10, 0); err != nil { // its reply is lost
		t.Fatal(err)
	}
	rdb.AddHook(afterRead(func() { s.hand.release([]settlement{{d: &first[0]}}) }))
	again := rdb.Conn()
	defer again.Close()
	stagetest.OK(t, s.pendingPass(t.Context(), again, 0, false))
	var got []string
	for _, d := range s.queue.waiting {
		got = append(got, d.EntryID)
	}
	if len(got) != 2 || got[0] != first[0].EntryID || got[1] == got[0] {
		t.Errorf("queued %v, want the first entry %s once, then the second", got, first[0].EntryID)
	}
	if s.replay.done() {
		t.Error("the replay counts as done though its entry is not settled")
	}
	s.replay.settled([]settlement{{d: s.queue.waiting[1]}})
	if !s.replay.done() {
		t.Error("the replay is not done though its entry is settled")
	}
}

// TestEra: Redis loses its last writes, as a failover may, and gives a lost entry's ID to another.
// What a handler returns for the lost one does not settle the other.
func TestEra(t *testing.T) {
	server := stagetest.Real(t)
	rdb := server.Client()
	b := brokerOf(t, server.Options())
	hold, handled := make(chan struct{}), make(chan string, 10)
	s, err := b.New(Config{Name: "s", In: "in"}, Each(func(_ context.Context, e Event[string]) (Nothing, error) {
		handled <- e.Body
		if e.Body == "lost" {
			<-hold
		}
		return Nothing{}, nil
	}))
	stagetest.OK(t, err)
	stagetest.Run(t, s)
	add := func(body string) {
		t.Helper()
		stagetest.OK(t, rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: "in", ID: "5-5", Values: []string{"payload", body, "id", newID(), "at", "1"}}).Err())
	}
	stagetest.Eventually(t, "the stage is ready", func() bool { return s.Ready() == nil })
	add("lost")
	<-handled
	// The server takes over the data of an empty one, and becomes a master again.
	empty := strings.Split(stagetest.Real(t, "--repl-diskless-sync-delay", "0").Addr, ":")
	stagetest.OK(t, rdb.ReplicaOf(t.Context(), empty[0], empty[1]).Err())
	stagetest.Eventually(t, "the entry is lost", func() bool {
		n, err := rdb.Exists(t.Context(), "in").Result()
		return err == nil && n == 0
	})
	stagetest.OK(t, rdb.ReplicaOf(t.Context(), "no", "one").Err())
	add("other")
	if got := <-handled; got != "other" { // the reader is in the new era, so a settler is, too
		t.Fatalf("handled %q, want other", got)
	}
	stagetest.Eventually(t, "the other entry is settled", func() bool {
		p, err := rdb.XPending(t.Context(), "in", "s").Result()
		return err == nil && p.Count == 0
	})
	stagetest.OK(t, rdb.XGroupSetID(t.Context(), "in", "s", "5-5").Err())
	// The same entry pending again: the late result of the lost one must leave it so.
	stagetest.OK(t, rdb.Do(t.Context(), "xclaim", "in", "s", "someone", 0, "5-5", "force", "justid").Err())
	close(hold)
	stagetest.Eventually(t, "the late result is dropped", func() bool {
		out := s.all()[0].out
		out.mu.Lock()
		defer out.mu.Unlock()
		s.queue.mu.Lock()
		defer s.queue.mu.Unlock()
		return s.queue.running == 0 && len(out.list) == 0 && out.under == 0
	})
	if p, err := rdb.XPending(t.Context(), "in", "s").Result(); err != nil || p.Count != 1 {
		t.Errorf("pending after the late result: %+v, %v; want the entry that is another one now", p, err)
	}
}

// Deliveries are taken in order. One that is to be handled alone runs while nothing else does, and
// one that failed twice has a call of its own.
func TestQueueOrder(t *testing.T) {
	q := newQueue(8)
	names := map[*delivery]string{}
	for _, d := range []struct {
		name string
		delivery
	}{{name: "a"}, {name: "b"}, {"alone", delivery{alone: true}}, {name: "c"}, {"failed twice", delivery{Entry: entry.Entry{Tries: 2}}}, {name: "d"}} {
		names[&d.delivery] = d.name
		q.push(&d.delivery)
	}
	take := func(want ...string) {
		t.Helper()
		var got []string
		for _, d := range q.take(10) {
			got = append(got, names[d])
		}
		if !slices.Equal(got, want) {
			t.Fatalf("took %q, want %q", got, want)
		}
	}
	blocked := func(want bool) {
		t.Helper()
		if got := q.together(10) == 0; got != want {
			t.Fatalf("take would wait: %v, want %v", got, want)
		}
	}
	take("a", "b")
	blocked(true)
	q.done(2)
	take("alone")
	blocked(true)
	q.done(1)
	take("c")
	blocked(false)
	take("failed twice")
	q.pause(true)
	blocked(true)
	q.pause(false)
	take("d")
	q.done(3)
	q.drain() // does not wait: nothing is left
	q.close()
	take()
}

// A script that ran although its reply was lost is sent again, and does nothing the second time.
func TestRepeatedScripts(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		s := stageOf(t, o)
		k, link := s.keys, s.link
		adopt := func(token string, batch int) {
			t.Helper()
			if _, err := link.Run(t.Context(), script.Adopt, []string{k.Stream("in"), k.Adopted("in", token)},
				batch, "s", 10, 2, newID(), "x", "", "", newID(), "y", "", 70000); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			adopt("a", 1)
			adopt("b", 1) // a successor, while the first one's reply is lost
		}
		adopt("a", 2)
		if n, dead := link.Client().XLen(t.Context(), "in").Val(), link.Client().XLen(t.Context(), "in:dead").Val(); n != 3 || dead != 3 {
			t.Errorf("three batches, two of them twice: %d entries, %d dead letters; want 3 and 3", n, dead)
		}
		for _, process := range []struct {
			name string
			want int
		}{{"p", 1}, {"p", 1}, {"q", 2}, {"q", 2}, {"r", 3}} {
			n, err := link.RunInt(t.Context(), script.Alone, []string{k.Groups("in")}, "s", "c", "1-1", process.name)
			if n != process.want || err != nil {
				t.Errorf("process %s handles it alone: %d, %v; want %d processes", process.name, n, err, process.want)
			}
		}
	})
}

// A script call, a read and the hand are bounded by bytes too; one that alone is larger goes alone.
func TestBoundedByBytes(t *testing.T) {
	list := []int{scriptBytes / 2, scriptBytes / 2, 1, 2 * scriptBytes, 1}
	var got []int
	for rest := list; len(rest) > 0; {
		n := fitting(rest, 4, func(n *int) int { return *n })
		got, rest = append(got, n), rest[n:]
	}
	if !slices.Equal(got, []int{2, 1, 1, 1}) {
		t.Errorf("batches of %v: %v, want 2, 1, 1, 1", list, got)
	}
	var h hand
	h.init(1024, handBytes)
	delivered := func(n, bytes int) []delivery {
		return slices.Repeat([]delivery{{Entry: entry.Entry{Payload: make([]byte, bytes)}}}, n)
	}
	for _, step := range []struct {
		read []delivery
		want int // entries to read next
	}{{nil, 64}, {delivered(64, 100), 128}, {delivered(1, 100), 256}, {delivered(4, 1<<20), 4}, {delivered(1, 8<<20), 1}} {
		h.learn(step.read)
		if n := h.room(t.Context()); n != step.want {
			t.Errorf("room after a read of %d entries: %d, want %d", len(step.read), n, step.want)
		}
	}
	h.add(&delivery{Entry: entry.Entry{EntryID: "1-1", Payload: make([]byte, handBytes)}})
	ended, end := context.WithCancel(t.Context())
	end()
	if n := h.room(ended); n != 0 {
		t.Errorf("room with %d bytes in hand: %d, want none", handBytes, n)
	}
}

// A consumer that Redis has forgotten, and whose first attempt to join again finds no Redis, joins
// with a later one.
func TestJoinAgain(t *testing.T) {
	server := stagetest.Real(t)
	s := stageOf(t, server.Options())
	s.gate.open(starting, "")
	server.Kill()
	joined := make(chan error, 1)
	go func() {
		_, err := s.join(t.Context(), false)
		joined <- err
	}()
	stagetest.Eventually(t, "it waits for redis", func() bool { return s.Ready() != nil })
	server.Start()
	if err := <-joined; err != nil {
		t.Fatalf("join with a Redis that came back: %v", err)
	}
	if err := s.Ready(); err != nil {
		t.Errorf("Ready() after joining = %v", err)
	}
}

// BenchmarkCall is what the runtime adds to a handler's call: a goroutine, a context with a
// timeout, and the metrics.
func BenchmarkCall(b *testing.B) {
	s, err := brokerOf(b, &redis.Options{Addr: "127.0.0.1:1"}).New(Config{Name: "s", In: "in"},
		Each(func(context.Context, Event[string]) (Nothing, error) { return Nothing{}, nil }))
	stagetest.OK(b, err)
	in := []*delivery{{Entry: entry.Entry{Payload: []byte("x")}}}
	b.Run("handler", func(b *testing.B) {
		for b.Loop() {
			s.h.call(b.Context(), in, make([]Result, 1))
		}
	})
	b.Run("call", func(b *testing.B) {
		for b.Loop() {
			s.call(b.Context(), in)
		}
	})
}
