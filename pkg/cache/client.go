package cache

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
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
	callTimeout = 500 * time.Millisecond // of a call to Redis: a slower cache does not help
	awayFor     = time.Second            // after a failed call, Redis is not called for this long
	lease       = 2 * time.Second        // the lock of a process that was killed ends after this
)

// ErrAway is wrapped by the error of a call that Redis did not answer in 500 ms, and of all calls
// in the second after it.
var ErrAway = errors.New("the cache is away")

// Client is a connection to the Redis that holds caches. Its methods are safe for concurrent use.
type Client struct {
	rdb  *redis.Client
	base string // in front of every key
	log  *slog.Logger
	away atomic.Int64 // Redis is not called before this Unix nanosecond; 0 while it answers
}

// Open prepares a client and does not connect. Of o it takes address, credentials and TLS. prefix
// stands before every key. The caller closes it.
func Open(o *redis.Options, prefix string, log *slog.Logger) *Client {
	if log == nil {
		log = slog.Default()
	}
	c := *o
	c.MaxRetries = -1 // if Redis fails, the value is loaded instead
	c.DialerRetries = 1
	c.ContextTimeoutEnabled = true
	c.DialTimeout, c.ReadTimeout, c.WriteTimeout = callTimeout, callTimeout, callTimeout
	c.PoolTimeout = callTimeout / 2                    // ends before the call does
	c.ReadBufferSize, c.WriteBufferSize = 4<<10, 4<<10 // entries are small
	c.DisableIdentity = true
	c.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	client := &Client{rdb: redis.NewClient(&c), base: prefix, log: log}
	client.rdb.AddHook(client)
	return client
}

// Pool returns the statistics of the connection pool and its size.
func (c *Client) Pool() (*redis.PoolStats, int) { return c.rdb.PoolStats(), c.rdb.Options().PoolSize }

// Close closes the connections.
func (c *Client) Close() error { return c.rdb.Close() }

// Ping returns nil if Redis answers, else an error wrapping [ErrAway].
func (c *Client) Ping(ctx context.Context) error { return c.rdb.Ping(ctx).Err() }

// ProcessHook implements redis.Hook. It gives a command callTimeout, and refuses it if Redis was
// away less than awayFor ago. If ctx has ended, the error is that of ctx, and says nothing about
// Redis.
func (c *Client) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if time.Now().UnixNano() < c.away.Load() {
			return ErrAway
		}
		short, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		err := next(short, cmd)
		var reply redis.Error
		switch {
		case err == nil, errors.As(err, &reply): // what Redis replies, such as OOM, is an answer
			if c.away.Swap(0) != 0 {
				c.log.Info("the cache is back")
			}
			return err
		case ended(ctx) != nil:
			return ended(ctx)
		case errors.Is(err, redis.ErrPoolTimeout): // too few connections; Redis may be well
		case c.away.Swap(time.Now().Add(awayFor).UnixNano()) == 0:
			c.log.Warn("the cache is away; every value is loaded", "err", err)
		}
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
}

// DialHook implements redis.Hook.
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
