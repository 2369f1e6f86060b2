package cache

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/singleflight"
)

// ErrMissing is wrapped by the error of a load that found nothing to load. It is remembered.
var ErrMissing = errors.New("does not exist")

// FailedError is the error of Get during the pause after a failed load. Why is that load's error.
type FailedError struct{ Why string }

func (e *FailedError) Error() string { return "failed a moment ago: " + e.Why }

// Options describe a cache. A zero field means its default.
type Options struct {
	Name    string        // required: part of the keys, label of the metrics
	TTL     time.Duration // an entry is fresh for this long at most. Default 5 min
	Jitter  float64       // a random part of TTL, up to this one, is taken off. Default 0.1
	Stale   time.Duration // an old entry is kept for this long after TTL. Default 0
	Slow    time.Duration // Get returns an old entry if loading takes longer. Default 1 s
	Missing time.Duration // ErrMissing is remembered for this long. Default 1 min
	Timeout time.Duration // of a load, and of waiting for another process' load. Default 10 s
	Pause   time.Duration // after a failed load, before the next. Default 1 s
}

// Cache is a read-through cache of values that JSON can hold. Its methods are safe for concurrent
// use. It is a [prometheus.Collector] of its metrics.
type Cache[V any] struct {
	*metrics
	client *Client
	o      Options
	log    *slog.Logger
	flight singleflight.Group
}

// New makes a cache in c.
func New[V any](c *Client, o Options) *Cache[V] {
	o.TTL = cmp.Or(o.TTL, 5*time.Minute)
	o.Jitter = cmp.Or(o.Jitter, 0.1)
	o.Slow = cmp.Or(o.Slow, time.Second)
	o.Missing = cmp.Or(o.Missing, time.Minute)
	o.Timeout = cmp.Or(o.Timeout, 10*time.Second)
	o.Pause = cmp.Or(o.Pause, time.Second)
	return &Cache[V]{newMetrics(o.Name), c, o, c.log.With("cache", o.Name), singleflight.Group{}}
}

// Result is a value and its origin.
type Result[V any] struct {
	Value  V
	Cached bool      // from Redis; else loaded for this call or one at the same time
	Stale  bool      // older than TTL: loading it again failed or takes longer than Slow
	At     time.Time // when it was loaded, to the millisecond
}

// Get returns the value of key: from Redis if it is fresh there, else from load. Of all processes
// that share the Redis, one loads a key at a time; the others wait for it. A load has the values of
// the first caller's context and runs on until Options.Timeout, even if its callers leave.
//
// The error is that of ctx if ctx has ended, else that of load, a remembered [ErrMissing] or a
// [*FailedError].
func (c *Cache[V]) Get(ctx context.Context, key string, load func(context.Context) (V, error)) (Result[V], error) {
	text, err := c.client.rdb.Get(ctx, c.key(key)).Result()
	if err := ended(ctx); err != nil {
		return Result[V]{}, err
	}
	old, ok := parse[V](text)
	switch {
	case err != nil && !errors.Is(err, redis.Nil):
		c.asked("away")
	case ok && old.fresh():
		return c.answer(old)
	case ok:
		c.asked("expired")
	case text != "":
		c.asked("corrupt")
		c.log.Warn("an entry that cannot be read is ignored", "bytes", len(text))
	default:
		c.asked("miss")
	}
	loading := c.flight.DoChan(key, func() (any, error) {
		return c.fill(context.WithoutCancel(ctx), key, text, load)
	})
	var slow <-chan time.Time
	if old.Value != nil {
		slow = time.After(c.o.Slow)
	}
	select {
	case <-ctx.Done():
		return Result[V]{}, ctx.Err()
	case <-slow:
		return c.stale(old), nil
	case l := <-loading:
		return l.Val.(Result[V]), l.Err
	}
}

// Drop removes the entry. A load that is under way in any process still answers its callers, but
// its value is not kept. After an error the entry may still be there.
func (c *Cache[V]) Drop(ctx context.Context, key string) error {
	c.flight.Forget(key) // a later Get must not get what was read before
	return c.client.rdb.Del(ctx, c.keys(key)...).Err()
}

func (c *Cache[V]) key(key string) string { return c.client.base + "cache:" + c.o.Name + ":" + key }

func (c *Cache[V]) keys(key string) []string { return []string{c.key(key), c.key(key) + "#lock"} }

// answer returns what a fresh entry says.
func (c *Cache[V]) answer(e entry[V]) (Result[V], error) {
	switch {
	case e.Missing:
		c.asked("missing")
		return Result[V]{}, fmt.Errorf("remembered: %w", ErrMissing)
	case e.Failed == "":
		c.asked("hit")
		return Result[V]{Value: *e.Value, Cached: true, At: time.UnixMilli(e.At)}, nil
	case e.Value != nil:
		return c.stale(e), nil
	}
	c.asked("miss")
	return Result[V]{}, &FailedError{e.Failed}
}

// stale returns the old value of an entry that has one.
func (c *Cache[V]) stale(e entry[V]) Result[V] {
	c.asked("stale")
	return Result[V]{Value: *e.Value, Cached: true, Stale: true, At: time.UnixMilli(e.At)}
}

// fill loads the value, or waits for another process that does. seen is the entry that Get read.
func (c *Cache[V]) fill(ctx context.Context, key, seen string, load func(context.Context) (V, error)) (Result[V], error) {
	whole, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	token := rand.Text()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		old, _ := parse[V](seen)
		// The lock outlives the load. That of a process which was killed ends then.
		reply, err := beginScript.Run(whole, c.client.rdb, c.keys(key), token, (c.o.Timeout + c.client.limit).Milliseconds(), seen).Slice()
		switch {
		case ended(whole) != nil && old.Value != nil:
			return c.stale(old), nil
		case ended(whole) != nil:
			return Result[V]{}, fmt.Errorf("waiting for another process to load it: %w", ended(whole))
		case err != nil: // without Redis every process loads for itself, and keeps nothing
			value, err := c.load(whole, load)
			return c.outcome(old, value, err)
		case reply[1] == int64(1):
			value, err := c.load(whole, load)
			c.save(ctx, key, token, old, value, err)
			return c.outcome(old, value, err)
		case reply[0] != seen:
			seen, _ = reply[0].(string)
			if e, ok := parse[V](seen); ok && e.fresh() {
				return c.answer(e)
			}
		}
		select {
		case <-whole.Done():
		case <-time.After(pause):
		}
	}
}

// load calls f and counts it. A panic becomes an error.
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

func (c *Cache[V]) outcome(old entry[V], value V, err error) (Result[V], error) {
	if err != nil && !errors.Is(err, ErrMissing) && old.Value != nil {
		c.log.Warn("an old value is served", "loaded", time.UnixMilli(old.At), "err", err)
		return c.stale(old), nil
	}
	return Result[V]{Value: value, At: time.UnixMilli(time.Now().UnixMilli())}, err
}

// save writes the entry after a load, if the lock is still held. An error costs another load.
func (c *Cache[V]) save(ctx context.Context, key, token string, old entry[V], value V, err error) {
	e, keep := next(c.o, old, value, err)
	text, err := json.Marshal(e)
	written := false
	if err == nil {
		written, err = fillScript.Run(ctx, c.client.rdb, c.keys(key), token, text, keep.Milliseconds()).Bool()
	}
	outcome := "outdated"
	switch {
	case err != nil:
		outcome = "failed"
		c.log.Debug("not kept", "err", err) // only debug: a full Redis refuses every entry
	case written:
		outcome = "kept"
	}
	if e.Failed == "" {
		c.kept.WithLabelValues(outcome).Inc()
	}
}
