package stagetest

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// BareHop moves n events from the stream in to the stream out with a bare pipelined client that
// issues the commands the stage's scripts issue where nobody listens, for benchmarks to compare
// with: XREADGROUP for a batch, then XACK and XADD for each event; the next batch is read while
// this one is written. It makes the group "bare", which must not be there yet, and returns the time
// it took.
func BareHop(t testing.TB, rdb *redis.Client, in, out string, n int) time.Duration {
	t.Helper()
	ctx := t.Context()
	if err := rdb.XGroupCreateMkStream(ctx, in, "bare", "0").Err(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	batches := make(chan []redis.XMessage, 4)
	go func() {
		defer close(batches)
		for read := 0; read < n; {
			r, err := rdb.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "bare", Consumer: "c", Streams: []string{in, ">"}, Count: 256}).Result()
			if err != nil {
				t.Error(err)
				return
			}
			read += len(r[0].Messages)
			batches <- r[0].Messages
		}
	}()
	for batch := range batches {
		p := rdb.Pipeline()
		for _, m := range batch {
			p.XAck(ctx, in, "bare", m.ID)
			p.XAdd(ctx, &redis.XAddArgs{Stream: out, Values: []any{"payload", m.Values["payload"], "id", m.Values["id"], "at", m.Values["at"]}})
		}
		if _, err := p.Exec(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return time.Since(start)
}
