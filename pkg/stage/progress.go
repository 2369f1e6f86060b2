package stage

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Step is what one stage did with a tracked event. A later Step of the same stage replaces the
// earlier one.
type Step struct {
	ID     string          `json:"-"`                // event ID
	Stage  string          `json:"stage"`            // the stage's name; for the submission itself the publisher's
	State  string          `json:"state"`            // "done", "retry" (will be tried again) or "dead" (dead letter)
	At     time.Time       `json:"at"`               // Redis' clock, to the millisecond
	Next   []string        `json:"next,omitempty"`   // the channels it was forwarded to
	Detail json.RawMessage `json:"detail,omitempty"` // from the output or result, see Progresser
}

// parseStep reads a line of the function step of the scripts.
func parseStep(id, line string) (Step, error) {
	stage, rest, _ := strings.Cut(line, " ")
	s := Step{ID: id, Stage: stage}
	head, rest, _ := strings.Cut(rest, " ")
	next, detail, _ := strings.Cut(rest, " ")
	if head != "" {
		s.State = map[byte]string{'d': "done", 'r': "retry", 'x': "dead"}[head[0]]
		head = head[1:]
	}
	ms, err := strconv.ParseInt(head, 10, 64)
	if err != nil || s.State == "" {
		return s, fmt.Errorf("progress of %s cannot be read: %.100q", id, line)
	}
	s.At = completeTime(ms, time.Now())
	if next != "" {
		s.Next = strings.Split(next, ",")
	}
	if detail != "" {
		s.Detail = json.RawMessage(detail)
	}
	return s, nil
}

// completeTime is the latest time whose Unix milliseconds end with these 7 digits and that is not
// more than 10 minutes after now, if Redis' clock is ahead of ours.
func completeTime(digits int64, now time.Time) time.Time {
	const most = 10_000_000
	latest := now.Add(10 * time.Minute).UnixMilli()
	return time.UnixMilli(latest - ((latest-digits)%most+most)%most)
}

// Progress reads the steps of a tracked event, oldest first. [ErrNotFound] if there are none: it
// was never tracked, or over an hour ago.
func (b *Broker) Progress(ctx context.Context, id string) ([]Step, error) {
	shards, err := b.shards(ctx)
	if err != nil {
		return nil, err
	}
	on := shards[ShardOf(id, len(shards))]
	key, field := on.keys.Progress(id)
	lines, err := on.link.Client().HGet(ctx, key, field).Result()
	if err = on.link.Check(ctx, err); err != nil {
		return nil, err
	}
	if lines == "" {
		return nil, ErrNotFound
	}
	var steps []Step
	for line := range strings.SplitSeq(strings.TrimSuffix(lines, "\n"), "\n") {
		s, err := parseStep(id, line)
		if err != nil {
			return nil, err
		}
		steps = slices.DeleteFunc(steps, func(earlier Step) bool { return earlier.Stage == s.Stage })
		steps = append(steps, s)
	}
	slices.SortFunc(steps, func(a, b Step) int {
		if c := a.At.Compare(b.At); c != 0 {
			return c
		}
		return strings.Compare(a.Stage, b.Stage)
	})
	return steps, nil
}

// Watcher follows tracked events live, any number of them over one subscription connection.
type Watcher struct {
	b      *Broker
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex
	sub     *redis.PubSub                  // nil while not connected
	watches map[string]map[*watch]struct{} // by event ID
	start   sync.Once
}

// watch is one Watch call.
type watch struct {
	mu    sync.Mutex
	news  []Step   // steps to deliver
	catch []string // events whose subscription was confirmed, and whose earlier steps are to be read
	wake  chan struct{}
}

func (w *watch) tell(news *Step, catch string) {
	w.mu.Lock()
	if news != nil {
		w.news = append(w.news, *news)
	} else {
		w.catch = append(w.catch, catch)
	}
	w.mu.Unlock()
	nudge(w.wake)
}

// Watcher makes a watcher; its connection is opened with the first Watch. Close it to stop it.
func (b *Broker) Watcher() *Watcher {
	w := &Watcher{b: b, watches: map[string]map[*watch]struct{}{}, ended: make(chan struct{})}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

// Watch calls f for each Step of the events: first the earlier ones, read after the subscription
// was confirmed so that none is missed, then live ones, and after each reconnect the earlier ones
// again. A Step may come more than once. f is called from one goroutine at a time. Watch blocks
// until ctx ends or the watcher is closed, and returns ctx's error or [ErrClosed].
func (w *Watcher) Watch(ctx context.Context, ids []string, f func(Step)) error {
	w.start.Do(func() { go w.loop() })
	me := &watch{wake: make(chan struct{}, 1)}
	w.enter(me, ids)
	defer w.leave(me, ids)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.ctx.Done():
			return ErrClosed
		case <-me.wake:
		}
		me.mu.Lock()
		news, catch := me.news, me.catch
		me.news, me.catch = nil, nil
		me.mu.Unlock()
		for _, id := range catch {
			steps, err := w.b.Progress(ctx, id)
			if err != nil {
				continue // no step yet, or Redis is away: the next confirmation reads again
			}
			for _, s := range steps {
				f(s)
			}
		}
		for _, s := range news {
			f(s)
		}
	}
}

// Close ends all watches.
func (w *Watcher) Close() error {
	w.cancel()
	w.start.Do(func() { close(w.ended) }) // never started
	<-w.ended
	return nil
}

func (w *Watcher) enter(me *watch, ids []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := len(w.watches) == 0
	for _, id := range ids {
		if w.watches[id] == nil {
			w.watches[id] = map[*watch]struct{}{}
		}
		w.watches[id][me] = struct{}{}
		if w.sub != nil && !first {
			me.tell(nil, id) // subscribed already, or about to be confirmed, which tells again
		}
	}
	if w.sub != nil && first {
		_ = w.sub.Subscribe(w.ctx, w.b.link.Keys.Watchers()) // on an error the loop reconnects and subscribes
	}
}

func (w *Watcher) leave(me *watch, ids []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		delete(w.watches[id], me)
		if len(w.watches[id]) == 0 {
			delete(w.watches, id)
		}
	}
	if w.sub != nil && len(w.watches) == 0 {
		_ = w.sub.Unsubscribe(w.ctx, w.b.link.Keys.Watchers())
	}
}

// loop keeps one subscription connection until the watcher is closed.
func (w *Watcher) loop() {
	defer close(w.ended)
	var wait backoff
	for w.ctx.Err() == nil {
		if w.follow() {
			wait.next = 0
		}
		wait.wait(w.ctx)
	}
}

// follow passes on the steps of the watched events until the connection breaks. It subscribes to
// the steps of all events while any is watched. It tells whether it was ever confirmed.
func (w *Watcher) follow() (confirmed bool) {
	w.mu.Lock()
	keys := []string{w.b.link.Keys.Watchers() + "-"} // keeps the connection open without events
	if len(w.watches) > 0 {
		keys = append(keys, w.b.link.Keys.Watchers())
	}
	sub := w.b.anyNode().Subscribe(w.ctx, keys...)
	w.sub = sub
	w.mu.Unlock()
	var heard lastHeard
	heard.now()
	ctx, stop := context.WithCancel(w.ctx)
	var guard sync.WaitGroup
	guard.Go(func() { w.b.guard(ctx, sub, &heard, w.b.opt.Lease/2) })
	defer func() {
		w.mu.Lock()
		w.sub = nil
		w.mu.Unlock()
		stop()
		guard.Wait()
	}()
	for {
		r, err := sub.Receive(w.ctx)
		if err != nil {
			return confirmed
		}
		heard.now()
		switch m := r.(type) {
		case *redis.Subscription:
			confirmed = true
			if m.Kind == "subscribe" && m.Channel == w.b.link.Keys.Watchers() {
				w.catchUp()
			}
		case *redis.Message:
			w.pass(m.Payload)
		}
	}
}

// catchUp lets all watches read their earlier steps.
func (w *Watcher) catchUp() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, watches := range w.watches {
		for x := range watches {
			x.tell(nil, id)
		}
	}
}

// pass tells a live step to those who watch its event.
func (w *Watcher) pass(message string) {
	id, line, _ := strings.Cut(message, " ")
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.watches[id]) == 0 {
		return
	}
	if s, err := parseStep(id, line); err == nil {
		for x := range w.watches[id] {
			x.tell(&s, "")
		}
	}
}
