package embedded_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/services/standalone/embedded"
)

func startRedis(t *testing.T) *redis.Client {
	t.Helper()
	r, err := embedded.StartRedis("127.0.0.1:0")
	if err != nil {
		t.Fatalf("StartRedis = %v", err)
	}
	t.Cleanup(r.Close)
	c := stagetest.Client(t, &redis.Options{Addr: r.Addr()})
	return c
}

// A key expires by itself, and not much before its time by the wall clock.
func TestRedisKeysExpire(t *testing.T) {
	c := startRedis(t)
	const life = time.Second
	start := time.Now()
	stagetest.OK(t, c.Set(t.Context(), "k", "v", life).Err())
	stagetest.Eventually(t, "the key is gone", func() bool { return c.Exists(t.Context(), "k").Val() == 0 })
	if lived := time.Since(start); lived < life-200*time.Millisecond {
		t.Errorf("key with a life of %v was gone after %v", life, lived)
	}
}

// TIME, in scripts too, is the wall clock.
func TestRedisTime(t *testing.T) {
	c := startRedis(t)
	before := time.Now().UnixMilli()
	got, err := c.Eval(t.Context(), `local t = redis.call('TIME'); return t[1] * 1000 + math.floor(t[2] / 1000)`, nil).Int64()
	stagetest.OK(t, err)
	if after := time.Now().UnixMilli(); got < before || got > after {
		t.Errorf("TIME in a script = %d ms; want between %d and %d", got, before, after)
	}
}
