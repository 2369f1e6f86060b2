package stage

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/*.lua
var lua embed.FS

var (
	publishScript = load("publish")
	settleScript  = load("settle")
	joinScript    = load("join")
	tickScript    = load("tick")
	aloneScript   = load("alone")
	leaveScript   = load("leave")
	ownScript     = load("own")
	adoptScript   = load("adopt")
	replayScript  = load("replay")
	retireScript  = load("retire")
	skipScript    = load("skip")
	statusScript  = load("status")
)

func load(name string) *redis.Script {
	common, err := lua.ReadFile("lua/common.lua")
	if err != nil {
		panic(err)
	}
	body, err := lua.ReadFile("lua/" + name + ".lua")
	if err != nil {
		panic(err)
	}
	return redis.NewScript(string(common) + "\n" + string(body))
}

// run runs a script once. The client does not retry, so an error wrapping ErrUnavailable means that the script may or may
// not have run.
func (b *Broker) run(ctx context.Context, s *redis.Script, keys []string, args ...any) ([]any, error) {
	reply, err := s.Run(ctx, b.rdb, keys, args...).Result()
	if err = b.seen(ctx, err); err != nil {
		return nil, err
	}
	list, ok := reply.([]any)
	if !ok {
		list = []any{reply}
	}
	return list, nil
}

// seen notes whether Redis answered and returns err, wrapping ErrUnavailable if it means that Redis is away.
func (b *Broker) seen(ctx context.Context, err error) error {
	switch {
	case err == nil || errors.Is(err, redis.Nil):
		b.link.up()
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case away(err):
		b.link.down()
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	default:
		return err
	}
}

// away tells Redis' refusals that pass (loading, read-only, full, …) and a broken connection from errors in a command.
func away(err error) bool {
	if errors.Is(err, redis.ErrClosed) {
		return false
	}
	var reply redis.Error
	if !errors.As(err, &reply) {
		return true
	}
	msg := reply.Error()
	for _, word := range []string{"LOADING", "READONLY", "MISCONF", "OOM", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS", "BUSY", "TRYAGAIN", "UNKILLABLE"} {
		if strings.HasPrefix(msg, word+" ") {
			return true
		}
	}
	return strings.Contains(msg, "max number of clients") || strings.Contains(msg, "command not allowed when used memory")
}

func number(v any) int {
	n, _ := v.(int64)
	return int(n)
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}
