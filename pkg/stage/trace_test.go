package stage_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// The traces of events that programs publish are tested with the programs, in test/e2e.

// An entry that somebody added without a traceparent has one trace over all attempts.
func TestTraceForeignEntry(t *testing.T) {
	t.Parallel()
	o, recorder := stagetest.Embedded(t), tracetest.NewSpanRecorder()
	b := open(t, o, func(o *stage.Options) { o.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)) })
	var tries atomic.Int32
	start(t, b, stage.Config{Name: "one", In: "in", BackoffMin: time.Millisecond}, stage.Each(func(context.Context, stage.Event[string]) (stage.Nothing, error) {
		if tries.Add(1) == 1 {
			panic("once")
		}
		return stage.Nothing{}, nil
	}))
	rdb := stagetest.Client(t, o)
	stagetest.OK(t, rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: "in", Values: []any{"payload", "x", "traceparent", "nonsense"}}).Err())
	var attempts []sdktrace.ReadOnlySpan
	stagetest.Eventually(t, "both attempts have ended", func() bool {
		attempts = slices.DeleteFunc(recorder.Ended(), func(s sdktrace.ReadOnlySpan) bool { return s.Name() != "process in" })
		return len(attempts) == 2
	})
	first, second := attempts[0].SpanContext(), attempts[1].Parent()
	if attempts[0].Parent().IsValid() || second.SpanID() != first.SpanID() || second.TraceID() != first.TraceID() {
		t.Errorf("the parents are %v and %v, want none and the first attempt %v", attempts[0].Parent(), second, first)
	}
}

// Without a tracer the traceparent of an entry goes on as it came, and none is made.
func TestTraceOff(t *testing.T) {
	t.Parallel()
	b := open(t, stagetest.Embedded(t))
	start(t, b, stage.Config{Name: "one", In: "in", Out: []stage.Output{{Channel: "out"}}}, stage.Each(upper))
	got := make(chan string, 2)
	start(t, b, stage.Config{Name: "two", In: "out"}, stage.Each(func(ctx context.Context, e stage.Event[string]) (stage.Nothing, error) {
		if trace.SpanFromContext(ctx).IsRecording() {
			t.Error("a span is recorded without a tracer")
		}
		got <- e.Traceparent
		return stage.Nothing{}, nil
	}))
	p := publisher(t, b, "in")
	for _, want := range []string{"", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"} {
		if _, err := p.Publish(t.Context(), stage.Submission{Body: "x", Traceparent: want}); err != nil {
			t.Fatal(err)
		}
		if tp := <-got; tp != want {
			t.Errorf("the traceparent at the second stage is %q, want %q", tp, want)
		}
	}
}
