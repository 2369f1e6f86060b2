package cache

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"
)

// ErrMissing is wrapped by the error of a load that found that there is nothing to load. It is remembered.
var ErrMissing = errors.New("does not exist")

// FailedError says that another load of the key failed a moment ago and is not repeated yet.
type FailedError struct{ Why string }

func (e *FailedError) Error() string { return "failed a moment ago: " + e.Why }

// Options describe a cache. The zero value of a field means the default it names.
type Options struct {
	Name    string        // required: in keys and metrics
	TTL     time.Duration // how long an entry is fresh, at most. Default 5 min
	Jitter  float64       // up to which part of it may be taken off at random. Default 0.1
	Stale   time.Duration // how much longer it is kept for when loading fails. Default none
	Slow    time.Duration // how long a caller waits for a load while there is an old entry to serve. Default 1 s
	Missing time.Duration // how long it is remembered that something does not exist. Default 1 min
	Timeout time.Duration // of a load, and of waiting for somebody else's. Default 10 s
	Pause   time.Duration // after a failed load before the next. Default 1 s
}

// Cache is a read-through cache of values that JSON can hold. Its methods are safe for concurrent use. It is a
// [prometheus.Collector] of its metrics.
type Cache[V any] struct {
	client *Client
	o      Options
	log    *slog.Logger
	flight singleflight.Group
	*metrics
}

// New makes a cache in c.
func New[V any](c *Client, o Options) *Cache[V] {
	def(&o.TTL, 5*time.Minute)
	def(&o.Jitter, 0.1)
	def(&o.Missing, time.Minute)
	def(&o.Timeout, 10*time.Second)
	def(&o.Pause, time.Second)
	def(&o.Slow, time.Second)
	return &Cache[V]{client: c, o: o, log: c.log.With("cache", o.Name), metrics: newMetrics(o.Name)}
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Result is a value and where it is from.
type Result[V any] struct {
	Value  V
	Cached bool      // it was there; else it was loaded for this call or one at the same time
	Stale  bool      // it is older than it should be, because it could not be loaded anew
	At     time.Time // when it was loaded, to the millisecond
}

// Get returns the value of key: from Redis or, if it is not there or no longer fresh, from load. Loads of a key run one at
// a time among all processes that share the Redis; who else asks meanwhile waits for it. A load runs on until
// Options.Timeout, though the caller may have left, with the values of the first caller's context.
//
// Errors: what load returned; one wrapping [ErrMissing], perhaps a remembered one; a [*FailedError]; ctx's own.
func (c *Cache[V]) Get(ctx context.Context, key string, load func(context.Context) (V, error)) (Result[V], error) {
	text, err := c.client.get(ctx, c.key(key))
	if err != nil && ctx.Err() != nil {
		return Result[V]{}, ctx.Err()
	}
	e, ok := read[V](text)
	switch {
	case err != nil:
		c.asked("away")
	case text != "" && !ok:
		c.asked("corrupt")
		c.log.Warn("an entry that cannot be read counts as none", "bytes", len(text))
	case ok && e.fresh(time.Now()):
		return c.answer(e, false)
	case ok:
		c.asked("expired")
	default:
		c.asked("miss")
	}
	loading := c.flight.DoChan(key, func() (any, error) {
		return c.fill(context.WithoutCancel(ctx), key, text, load)
	})
	var late <-chan time.Time
	if ok && !e.Missing {
		slow := time.NewTimer(c.o.Slow)
		defer slow.Stop()
		late = slow.C
	}
	select {
	case <-ctx.Done():
		return Result[V]{}, fmt.Errorf("waiting for a load: %w", ctx.Err())
	case <-late:
		return c.answer(e, true)
	case l := <-loading:
		r, _ := l.Val.(Result[V])
		return r, l.Err
	}
}

// Drop removes the entry. A load of it that is under way anywhere still answers who waits for it, but is not kept. After
// an error the entry may still be there.
func (c *Cache[V]) Drop(ctx context.Context, key string) error {
	c.flight.Forget(key) // who asks from now on shall not get what was read before
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.client.seen(ctx, c.client.rdb.Del(ctx, c.key(key), c.lock(key)).Err())
}

func (c *Cache[V]) key(key string) string  { return "cache:" + c.o.Name + ":" + key }
func (c *Cache[V]) lock(key string) string { return c.key(key) + "#lock" }

// answer is the result of an entry.
func (c *Cache[V]) answer(e entry[V], stale bool) (Result[V], error) {
	if e.Missing {
		c.asked("missing")
		return Result[V]{}, fmt.Errorf("remembered: %w", ErrMissing)
	}
	if stale {
		c.asked("stale")
	} else {
		c.asked("hit")
	}
	return Result[V]{Value: *e.Value, Cached: true, Stale: stale, At: time.UnixMilli(e.At)}, nil
}

// fill loads the value, or waits for who does. Seen is the entry that was found not to do.
func (c *Cache[V]) fill(ctx context.Context, key, seen string, load func(context.Context) (V, error)) (Result[V], error) {
	whole, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	old, usable := read[V](seen)
	usable = usable && !old.Missing
	token := rand.Text()
	pause := 5 * time.Millisecond
	for {
		state, text, err := c.begin(whole, key, token, seen)
		if err != nil { // nobody to agree with
			token = ""
			state = "locked"
		}
		switch state {
		case "moved":
			if e, ok := read[V](text); ok && e.fresh(time.Now()) {
				return c.answer(e, false)
			}
			seen = text
			old, usable = read[V](seen)
			usable = usable && !old.Missing
			continue
		case "failed":
			if usable {
				return c.answer(old, true)
			}
			return Result[V]{}, &FailedError{text}
		case "locked":
			renewed := c.renew(whole, key, token)
			value, err := c.load(whole, load)
			renewed()
			now := time.Now()
			switch {
			case err == nil:
				c.save(ctx, key, token, &value, now)
				return Result[V]{Value: value, At: now.Truncate(time.Millisecond)}, nil
			case errors.Is(err, ErrMissing):
				c.save(ctx, key, token, nil, now)
				return Result[V]{}, err
			}
			c.note(ctx, key, token, err)
			if usable {
				c.log.Warn("an old value is served", "loaded", time.UnixMilli(old.At), "err", err)
				return c.answer(old, true)
			}
			return Result[V]{}, err
		}
		select {
		case <-whole.Done():
			if usable {
				return c.answer(old, true)
			}
			return Result[V]{}, fmt.Errorf("waiting for another process to load it: %w", whole.Err())
		case <-time.After(pause):
			pause = min(2*pause, 50*time.Millisecond)
		}
	}
}

func (c *Cache[V]) begin(ctx context.Context, key, token, seen string) (state, text string, err error) {
	reply, err := c.client.run(ctx, beginScript, []string{c.key(key), c.lock(key)}, token, lease.Milliseconds(), seen)
	if err != nil {
		return "", "", err
	}
	words, _ := reply.([]any)
	if len(words) != 2 {
		return "", "", fmt.Errorf("begin a load: unexpected reply %v", reply)
	}
	state, _ = words[0].(string)
	text, _ = words[1].(string)
	return state, text, nil
}

// renew keeps the lock until the returned function is called.
func (c *Cache[V]) renew(ctx context.Context, key, token string) (stop func()) {
	if token == "" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(lease / 3):
			}
			// One that fails is no harm: the next may do better, and without the lock the value is not kept.
			_, _ = c.client.run(ctx, renewScript, []string{c.lock(key)}, token, lease.Milliseconds())
		}
	}()
	return func() { cancel(); <-ended }
}

// load calls f. A panic is an error of the call, not the end of all.
func (c *Cache[V]) load(ctx context.Context, f func(context.Context) (V, error)) (value V, err error) {
	start := time.Now()
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("load panicked", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("load panicked: %v", p)
		}
		c.loaded(start, err)
	}()
	return f(ctx)
}

// save keeps what was loaded, nil for nothing, if the lock is still ours. Failing costs the next caller a load.
func (c *Cache[V]) save(ctx context.Context, key, token string, value *V, now time.Time) {
	if token == "" {
		return
	}
	until, keep := c.o.keep(now, value == nil)
	text, err := json.Marshal(entry[V]{Value: value, Missing: value == nil, At: now.UnixMilli(), Until: until.UnixMilli()})
	var kept any
	if err == nil {
		kept, err = c.client.run(ctx, fillScript, []string{c.key(key), c.lock(key)}, token, text, keep.Milliseconds())
	}
	switch {
	case err != nil:
		c.kept.WithLabelValues("failed").Inc()
		c.log.Debug("not kept", "err", err) // counted; of a full Redis it would be said at each load
	case kept == int64(0):
		c.kept.WithLabelValues("outdated").Inc()
	default:
		c.kept.WithLabelValues("kept").Inc()
	}
}

// note keeps others from trying at once what just failed.
func (c *Cache[V]) note(ctx context.Context, key, token string, cause error) {
	if token == "" {
		return
	}
	if _, err := c.client.run(ctx, failScript, []string{c.lock(key)}, token, "!"+cause.Error(), c.o.Pause.Milliseconds()); err != nil {
		c.log.Debug("not noted that a load failed", "err", err)
	}
}

var _ prometheus.Collector = (*Cache[int])(nil)
