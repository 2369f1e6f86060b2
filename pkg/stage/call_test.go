package stage

import (
	"context"
	"testing"

	"github.com/milepost/milepost/pkg/stage/internal/entry"
	"github.com/redis/go-redis/v9"
)

// BenchmarkCall is what the runtime adds to a handler's call: a goroutine, a context with a timeout, and the metrics.
func BenchmarkCall(b *testing.B) {
	s, err := brokerOf(b, &redis.Options{Addr: "127.0.0.1:1"}).New(Config{Name: "s", In: "in"},
		Each(func(context.Context, Event[string]) (Nothing, error) { return Nothing{}, nil }))
	if err != nil {
		b.Fatal(err)
	}
	in := []*delivery{{Entry: entry.Entry{Payload: []byte("x")}}}
	b.Run("handler", func(b *testing.B) {
		for b.Loop() {
			s.h.call(b.Context(), in, make([]Result, 1))
		}
	})
	b.Run("call", func(b *testing.B) {
		for b.Loop() {
			s.call(b.Context(), in)
		}
	})
}
