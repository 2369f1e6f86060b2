// Package link is a pipeline's connection to Redis, as the runtime and the tools share it.
package link

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/internal/keys"
)

// CallTimeout bounds one round trip.
const CallTimeout = 5 * time.Second

// errSlow is the cause of the end of a context that Within made.
var errSlow = errors.New("no answer in time")

// Within bounds a call to Redis. That it took too long is an outage to Check, unlike the end of the
// caller's context.
func Within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, errSlow)
}

// ErrUnavailable: Redis is away, loading or read-only, or its reply was lost.
var ErrUnavailable = errors.New("redis is away")

// ErrRefused: Redis is there and refused a script before its first write, because it is full or a
// key is of a wrong type.
var ErrRefused = errors.New("redis refuses")

// ShardError: the master of one shard of a Redis Cluster is away. Others may work.
type ShardError struct {
	Shard string // such as "shard 3"
	Err   error
}

func (e *ShardError) Error() string { return e.Shard + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *ShardError) Unwrap() error { return e.Err }

// Reply is an error that Redis replied inside a script, for Check.
type Reply string

func (r Reply) Error() string { return string(r) }

// RedisError implements redis.Error.
func (Reply) RedisError() {}

// Link is a client that does not retry. Its methods are safe for concurrent use.
type Link struct {
	Client func() *redis.Client // of the master
	Keys   keys.Names
	// Allowed, if set, is asked before the first script and again after an outage, over the
	// link of that script; its error is the script's.
	Allowed func(context.Context, *Link) error
	MaxDead int           // dead letters a channel keeps
	Timeout time.Duration // of a script call. Default CallTimeout

	// Of a shard in a Redis Cluster. Lost is called when its master is away; it does not block.
	Name string
	Lost func()

	once sync.Once
	sure *atomic.Bool // Allowed said yes since the last outage, for all links over the same Redis
}

// Through is the same link through another client, with a timeout of its own. They share what
// Allowed said.
func (l *Link) Through(client func() *redis.Client, timeout time.Duration) *Link {
	return &Link{Client: client, Keys: l.Keys, Allowed: l.Allowed, MaxDead: l.MaxDead, Timeout: timeout, Name: l.Name, Lost: l.Lost, sure: l.certain()}
}

func (l *Link) certain() *atomic.Bool {
	l.once.Do(func() {
		if l.sure == nil {
			l.sure = new(atomic.Bool)
		}
	})
	return l.sure
}

// Run runs a script once and returns its reply. The client does not retry: after an error wrapping
// ErrUnavailable the script may or may not have run.
func (l *Link) Run(ctx context.Context, s *redis.Script, keys []string, args ...any) (any, error) {
	if err := l.Ready(ctx); err != nil {
		return nil, err
	}
	return l.RunUnchecked(ctx, s, keys, args...)
}

// Ready asks Allowed, unless it said yes since the last outage.
func (l *Link) Ready(ctx context.Context) error {
	if l.Allowed == nil || l.certain().Load() {
		return nil
	}
	err := l.Allowed(ctx, l)
	if err == nil {
		l.certain().Store(true)
	}
	return err
}

// Recheck has Allowed asked before the next script.
func (l *Link) Recheck() { l.certain().Store(false) }

// RunUnchecked is Run without asking Allowed.
func (l *Link) RunUnchecked(ctx context.Context, s *redis.Script, keys []string, args ...any) (any, error) {
	return l.run(ctx, Over(l.Client()), s, keys, args)
}

// Via sends a command and waits for its reply.
type Via func(ctx context.Context, send func(redis.Scripter) *redis.Cmd) *redis.Cmd

// Over sends over a client or a connection.
func Over(on redis.Scripter) Via {
	return func(_ context.Context, send func(redis.Scripter) *redis.Cmd) *redis.Cmd { return send(on) }
}

// run runs the script by its hash or, if Redis does not have it, by its text.
func (l *Link) run(ctx context.Context, via Via, s *redis.Script, keys []string, args []any) (any, error) {
	call, cancel := Within(ctx, cmp.Or(l.Timeout, CallTimeout))
	defer cancel()
	keys, args = l.and(keys), append(args, l.Keys.Base)
	cmd := via(call, func(on redis.Scripter) *redis.Cmd { return s.EvalSha(call, on, keys, args...) })
	if redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
		cmd = via(call, func(on redis.Scripter) *redis.Cmd { return s.Eval(call, on, keys, args...) })
	}
	reply, err := cmd.Result()
	return reply, l.Check(ctx, err)
}

// and adds, in a Redis Cluster, a key that never exists to those of a script. While the slot is on
// the move, Redis then refuses the script whole, and not at the first key that is gone already.
func (l *Link) and(keys []string) []string {
	if l.Keys.Base == l.Keys.Prefix {
		return keys
	}
	return append(keys[:len(keys):len(keys)], l.Keys.None())
}

// RunCopied is Run, and then waits until n replicas have what the script wrote, and all before it
// on the master, but not longer than patience. It returns how many have it.
func (l *Link) RunCopied(ctx context.Context, n int, patience time.Duration, s *redis.Script, keys []string, args ...any) (reply any, copied int, err error) {
	if err := l.Ready(ctx); err != nil {
		return nil, 0, err
	}
	var wait *redis.Cmd
	// In one pipeline, so on one connection: WAIT covers what its own connection wrote.
	reply, err = l.run(ctx, func(call context.Context, send func(redis.Scripter) *redis.Cmd) *redis.Cmd {
		pipe := l.Client().Pipeline()
		cmd := send(pipe)
		wait = pipe.Do(call, "wait", n, patience.Milliseconds())
		_, _ = pipe.Exec(call) // each command has its error
		return cmd
	}, s, keys, args)
	if err == nil {
		err = l.Check(ctx, wait.Err())
	}
	copied, _ = wait.Int()
	return reply, copied, err
}

// RunInt is Run for a script that replies with a number.
func (l *Link) RunInt(ctx context.Context, s *redis.Script, keys []string, args ...any) (int, error) {
	reply, err := l.Run(ctx, s, keys, args...)
	n, _ := reply.(int64)
	return int(n), err
}

// RunJSON is Run for a script that replies with a JSON object, and decodes it into v. An empty
// reply leaves v as it is.
func (l *Link) RunJSON(ctx context.Context, v any, s *redis.Script, keys []string, args ...any) error {
	return l.RunJSONVia(ctx, Over(l.Client()), v, s, keys, args...)
}

// RunJSONVia is RunJSON by another way than the client.
func (l *Link) RunJSONVia(ctx context.Context, via Via, v any, s *redis.Script, keys []string, args ...any) error {
	if err := l.Ready(ctx); err != nil {
		return err
	}
	reply, err := l.run(ctx, via, s, keys, args)
	if err == nil {
		err = Decode(reply, v)
	}
	return err
}

// Decode reads a script's reply that is a JSON object. An empty one leaves v as it is.
func Decode(reply, v any) error {
	if text, _ := reply.(string); text != "" {
		return json.Unmarshal([]byte(text), v)
	}
	return nil
}

// Check returns err: nil for redis.Nil, wrapping ErrUnavailable if Redis is away, ErrRefused if it
// is full or a key is of a wrong type, ctx's error if ctx has ended.
func (l *Link) Check(ctx context.Context, err error) error {
	switch {
	case err == nil || errors.Is(err, redis.Nil):
		return nil
	case ctx.Err() != nil && context.Cause(ctx) != errSlow:
		return context.Cause(ctx)
	case Away(err):
		l.Recheck()
		if l.Lost != nil {
			l.Lost()
		}
		if strings.Contains(err.Error(), "unauthenticated") {
			err = errors.New("NOAUTH Authentication required")
		}
		if errors.Is(err, context.DeadlineExceeded) && l.Client().Options().TLSConfig != nil {
			err = fmt.Errorf("%w; does the server speak TLS on this port?", err)
		}
		if l.Name != "" {
			err = &ShardError{l.Name, err}
		}
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case Refused(err):
		return fmt.Errorf("%w: %w", ErrRefused, err)
	default:
		return err
	}
}

// Away tells whether Redis is away: the connection broke, or Redis is loading, read-only and the
// like.
func Away(err error) bool {
	if errors.Is(err, redis.ErrClosed) {
		return false
	}
	var reply redis.Error
	if !errors.As(err, &reply) {
		return true
	}
	if Denied(err) {
		return true
	}
	msg := reply.Error()
	for _, word := range []string{"UNBLOCKED", "MOVED", "ASK", "LOADING", "READONLY", "MISCONF", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS", "BUSY", "TRYAGAIN", "UNKILLABLE"} {
		if strings.HasPrefix(msg, word+" ") {
			return true
		}
	}
	return strings.Contains(msg, "WAIT cannot be used with replica") || strings.Contains(msg, "max number of clients")
}

// Moved tells whether a server of a cluster refused a call because another one has the slot.
func Moved(err error) bool { return redis.HasErrorPrefix(err, "MOVED") }

// Denied tells whether Redis refused the credentials, the database or the user's rights.
func Denied(err error) bool {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return false
	}
	msg := reply.Error()
	// Redis does not even read a long command of a client that has not logged in.
	for _, word := range []string{"NOPERM", "WRONGPASS", "NOAUTH", "ERR Protocol error: unauthenticated", "ERR DB index", "ERR AUTH"} {
		if strings.HasPrefix(msg, word+" ") {
			return true
		}
	}
	return strings.Contains(msg, "ACL failure in script") || strings.Contains(msg, "The user executing the script can't")
}

// Refused tells whether err is the refusal of a full Redis to grow, or is about a key of a wrong
// type.
func Refused(err error) bool {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return false
	}
	msg := reply.Error()
	for _, word := range []string{"OOM", "WRONGKEY", "WRONGTYPE"} {
		if strings.HasPrefix(msg, word+" ") {
			return true
		}
	}
	return strings.Contains(msg, "command not allowed when used memory")
}
