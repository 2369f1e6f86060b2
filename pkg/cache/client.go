package cache

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

//go:embed lua
var files embed.FS

var beginScript, renewScript, fillScript, failScript = script("begin"), script("renew"), script("fill"), script("fail")

func script(name string) *redis.Script {
	text, err := files.ReadFile("lua/" + name + ".lua")
	if err != nil {
		panic(err) // it is part of the program
	}
	return redis.NewScript(string(text))
}

const (
	callTimeout = 500 * time.Millisecond // a cache that takes longer does not help
	awayFor     = time.Second            // how long an absent Redis is not asked
	lease       = 2 * time.Second        // after which a process that was killed while it loaded is not waited for
)

// ErrAway: the cache's Redis cannot be reached.
var ErrAway = errors.New("the cache is away")

// Client is a connection to the Redis that holds caches. Its methods are safe for concurrent use.
type Client struct {
	rdb  *redis.Client
	log  *slog.Logger
	away atomic.Int64 // until when Redis is not asked, in Unix nanoseconds; 0 while it is there
}

// Open prepares a client and connects to nothing. Of o it takes address, credentials and TLS. The caller closes it.
func Open(o *redis.Options, log *slog.Logger) *Client {
	if log == nil {
		log = slog.Default()
	}
	c := *o
	c.MaxRetries = -1 // loading is the way out, and it does not wait
	c.DialerRetries = 1
	c.ContextTimeoutEnabled = true
	c.DialTimeout, c.ReadTimeout, c.WriteTimeout, c.PoolTimeout = callTimeout, callTimeout, callTimeout, callTimeout
	c.ReadBufferSize, c.WriteBufferSize = 4<<10, 4<<10 // entries are small
	c.DisableIdentity = true
	c.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return &Client{rdb: redis.NewClient(&c), log: log}
}

// Pool tells about the connections, and how many there may be.
func (c *Client) Pool() (*redis.PoolStats, int) { return c.rdb.PoolStats(), c.rdb.Options().PoolSize }

// Close closes the connections.
func (c *Client) Close() error { return c.rdb.Close() }

// Ping is nil if Redis is there, else an error wrapping [ErrAway].
func (c *Client) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.seen(ctx, c.rdb.Ping(ctx).Err())
}

// get reads an entry; "" is none.
func (c *Client) get(ctx context.Context, key string) (string, error) {
	if c.skip() {
		return "", ErrAway
	}
	text, err := c.rdb.Get(ctx, key).Result()
	if errors.Is(err, redis.Nil) {
		err = nil
	}
	return text, c.seen(ctx, err)
}

func (c *Client) run(ctx context.Context, s *redis.Script, keys []string, args ...any) (any, error) {
	if c.skip() {
		return nil, ErrAway
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	reply, err := s.Run(ctx, c.rdb, keys, args...).Result()
	return reply, c.seen(ctx, err)
}

// skip reports whether Redis was found away a moment ago.
func (c *Client) skip() bool {
	until := c.away.Load()
	return until != 0 && time.Now().UnixNano() < until
}

// seen remembers whether Redis was there. What Redis itself answered, such as that it is full, is an answer; that the
// caller has left says nothing.
func (c *Client) seen(ctx context.Context, err error) error {
	var answer redis.Error
	switch {
	case err == nil, errors.As(err, &answer):
		if c.away.Swap(0) != 0 {
			c.log.Info("the cache is back")
		}
		return err
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.Is(err, redis.ErrPoolTimeout): // we ask for more than we have connections for; Redis may be well
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	if c.away.Swap(time.Now().Add(awayFor).UnixNano()) == 0 {
		c.log.Warn("the cache is away; everything is loaded anew", "err", err)
	}
	return fmt.Errorf("%w: %w", ErrAway, err)
}
