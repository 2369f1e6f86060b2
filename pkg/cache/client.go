package cache

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

//go:embed lua/begin.lua
var beginText string

//go:embed lua/fill.lua
var fillText string

var beginScript, fillScript = redis.NewScript(beginText), redis.NewScript(fillText)

const (
	callTimeout = 500 * time.Millisecond // default time limit of a call to Redis: a slower cache does not help
	awayFor     = time.Second            // after a failed call, Redis is not called for this long
)

// ErrAway is wrapped by the error of a call that Redis did not answer in time or refused to this
// user or to all, and of all calls in the second after it.
var ErrAway = errors.New("the cache is away")

// Client is a connection to the Redis that holds caches. Its methods are safe for concurrent use.
type Client struct {
	rdb   *redis.Client
	limit time.Duration // of the time of a call
	base  string        // in front of every key
	log   *slog.Logger
	away  atomic.Int64          // Redis is not called before this Unix nanosecond; 0 while it answers
	why   atomic.Pointer[error] // what the last failed call said
}

// Open prepares a client and does not connect. Of o it takes address, credentials, TLS, and
// ReadTimeout, the time limit of a call (default 500 ms). prefix stands before every key. The
// caller closes it.
func Open(o *redis.Options, prefix string, log *slog.Logger) *Client {
	if log == nil {
		log = slog.Default()
	}
	c := *o
	c.MaxRetries = -1 // if Redis fails, the value is loaded instead
	c.DialerRetries = 1
	c.ContextTimeoutEnabled = true
	if c.ReadTimeout <= 0 {
		c.ReadTimeout = callTimeout
	}
	c.DialTimeout, c.WriteTimeout = c.ReadTimeout, c.ReadTimeout
	c.PoolTimeout = c.ReadTimeout / 2                  // ends before the call does
	c.ReadBufferSize, c.WriteBufferSize = 4<<10, 4<<10 // entries are small
	c.DisableIdentity = true
	c.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	client := &Client{rdb: redis.NewClient(&c), limit: c.ReadTimeout, base: prefix, log: log}
	client.rdb.AddHook(client)
	return client
}

// Pool returns the statistics of the connection pool and its size.
func (c *Client) Pool() (*redis.PoolStats, int) { return c.rdb.PoolStats(), c.rdb.Options().PoolSize }

func (c *Client) Close() error { return c.rdb.Close() }

// Ping returns nil if Redis answers and this user may do what caches need, else an error wrapping
// [ErrAway], or that of ctx if it has ended. A full Redis answers.
func (c *Client) Ping(ctx context.Context) error {
	keys := []string{c.base + "cache:#ping", c.base + "cache:#ping#lock"}
	for _, try := range []func() error{
		func() error { return c.rdb.Get(ctx, keys[0]).Err() },
		func() error { return beginScript.Run(ctx, c.rdb, keys, "ping", callTimeout.Milliseconds(), "").Err() },
		func() error { return fillScript.Run(ctx, c.rdb, keys, "ping", "", callTimeout.Milliseconds()).Err() },
		func() error { return c.rdb.Del(ctx, keys...).Err() },
	} {
		switch err := try(); {
		case ended(ctx) != nil:
			return ended(ctx)
		case errors.Is(err, ErrAway):
			return err
		}
	}
	return nil
}

// refused tells whether a reply refuses all calls, or this user's: with err, or with nil if Redis
// only refuses this one, as a full Redis does. To missing rights it adds the command that grants
// them, for keys only if they are what is missing: a user may have all keys.
func (c *Client) refused(reply redis.Error) error {
	msg := reply.Error()
	if !strings.Contains(msg, "NOPERM") && !strings.Contains(msg, "ACL failure") && !strings.Contains(msg, "The user executing the script can't") {
		for _, word := range []string{"MOVED", "ASK", "CROSSSLOT", "CLUSTERDOWN"} {
			if strings.HasPrefix(msg, word+" ") {
				return fmt.Errorf("%w; a cache needs a single Redis, not a cluster: set CACHE_REDIS_URL", reply)
			}
		}
		for _, word := range []string{"WRONGPASS", "NOAUTH", "LOADING", "READONLY", "MISCONF", "MASTERDOWN", "NOREPLICAS"} {
			if strings.HasPrefix(msg, word) {
				return reply
			}
		}
		return nil
	}
	keys := ""
	if strings.Contains(msg, "one of the keys") || strings.Contains(msg, "access a key") {
		keys = " ~" + c.base + "cache:*"
	}
	return fmt.Errorf("%w; to allow it: ACL SETUSER %s%s +get +set +del +eval +evalsha", reply, cmp.Or(c.rdb.Options().Username, "default"), keys)
}

// ProcessHook implements redis.Hook. It limits the time of a command, and refuses it if Redis was
// away less than awayFor ago. If ctx has ended, the error is that of ctx, and says nothing about
// Redis.
func (c *Client) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if time.Now().UnixNano() < c.away.Load() {
			return fmt.Errorf("%w: %w", ErrAway, *c.why.Load())
		}
		short, cancel := context.WithTimeout(ctx, c.limit)
		defer cancel()
		err := next(short, cmd)
		answered := err == nil
		var reply redis.Error
		if errors.As(err, &reply) {
			if refused := c.refused(reply); refused != nil {
				err = refused
			} else {
				answered = true // such as OOM
			}
		}
		switch {
		case answered:
			if c.away.Swap(0) != 0 {
				c.log.Info("the cache is back")
			}
			return err
		case ended(ctx) != nil:
			return ended(ctx)
		case errors.Is(err, redis.ErrPoolTimeout): // too few connections; Redis may be well
		default:
			c.why.Store(&err)
			if c.away.Swap(time.Now().Add(awayFor).UnixNano()) == 0 {
				c.log.Warn("the cache is away; every value is loaded", "err", err)
			}
		}
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
}

func (c *Client) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessPipelineHook implements redis.Hook. The cache has no pipelines.
func (c *Client) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// ended is ctx.Err(), but does not wait for the timer of ctx: a connection may notice the deadline
// a moment before.
func ended(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok && ctx.Err() == nil && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}
