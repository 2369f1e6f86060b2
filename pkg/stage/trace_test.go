package stage_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// traced makes a broker that traces, and what it traces into.
func traced(t testing.TB, o *redis.Options) (*stage.Broker, *sdktrace.TracerProvider, *tracetest.SpanRecorder) {
	t.Helper()
	spans := tracetest.NewSpanRecorder()
	p := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	return open(t, o, func(o *stage.Options) { o.Tracer = p }), p, spans
}

// named waits until n spans of that name have ended and returns them in the order of their
// beginning.
func named(t testing.TB, r *tracetest.SpanRecorder, name string, n int) []sdktrace.ReadOnlySpan {
	t.Helper()
	var found []sdktrace.ReadOnlySpan
	stagetest.Eventually(t, "the span "+name, func() bool {
		found = slices.DeleteFunc(r.Ended(), func(s sdktrace.ReadOnlySpan) bool { return s.Name() != name })
		return len(found) >= n
	})
	if len(found) != n {
		t.Fatalf("%d spans are named %q, want %d", len(found), name, n)
	}
	slices.SortFunc(found, func(a, b sdktrace.ReadOnlySpan) int { return a.StartTime().Compare(b.StartTime()) })
	return found
}

func follows(t testing.TB, child sdktrace.ReadOnlySpan, parent trace.SpanContext) {
	t.Helper()
	if child.Parent().SpanID() != parent.SpanID() || child.SpanContext().TraceID() != parent.TraceID() {
		t.Errorf("%s has parent %s of trace %s, want %s of %s", child.Name(),
			child.Parent().SpanID(), child.SpanContext().TraceID(), parent.SpanID(), parent.TraceID())
	}
}

func attributeOf(s sdktrace.ReadOnlySpan, key string) string {
	for _, a := range s.Attributes() {
		if a.Key == attribute.Key(key) {
			return a.Value.String()
		}
	}
	return ""
}

// An event has one trace from the publish on, over a failed attempt, and what a handler adds
// belongs to it.
func TestTrace(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b, p, spans := traced(t, o)
		tracer := p.Tracer("test")
		var tries atomic.Int32
		start(t, b, stage.Config{Name: "one", In: "in", Out: []stage.Output{{Channel: "next"}}, BackoffMin: time.Millisecond},
			stage.Each(func(_ context.Context, e stage.Event[string]) (string, error) {
				if tries.Add(1) == 1 {
					return "", errors.New("not for ada@example.com")
				}
				return e.Body, nil
			}))
		start(t, b, stage.Config{Name: "two", In: "next"}, stage.Batch(8, func(ctx context.Context, in []stage.Event[string]) []stage.Result {
			for _, e := range in {
				_, s := tracer.Start(e.Context(ctx), "write")
				s.End()
			}
			return make([]stage.Result, len(in))
		}))
		ctx, request := tracer.Start(t.Context(), "POST")
		r, err := publisher(t, b, "in").Publish(ctx, stage.Submission{Body: "x"})
		if err != nil {
			t.Fatal(err)
		}
		request.End()

		publish := named(t, spans, "publish in", 1)[0]
		first := named(t, spans, "process in", 2)
		second := named(t, spans, "process next", 1)[0]
		follows(t, publish, request.SpanContext())
		follows(t, first[0], publish.SpanContext())
		follows(t, first[1], publish.SpanContext())
		follows(t, second, first[1].SpanContext())
		follows(t, named(t, spans, "write", 1)[0], second.SpanContext())
		if got := first[0].Status(); got.Code != codes.Error || got.Description != "error" {
			t.Errorf("the failed attempt has status %+v, want an error without its text", got)
		}
		if first[1].Status().Code != codes.Unset || attributeOf(first[1], "milepost.tries") != "1" {
			t.Errorf("the second attempt has status %v and attributes %v", first[1].Status(), first[1].Attributes())
		}
		if publish.SpanKind() != trace.SpanKindProducer || second.SpanKind() != trace.SpanKindConsumer {
			t.Errorf("kinds are %s and %s, want producer and consumer", publish.SpanKind(), second.SpanKind())
		}
		for key, want := range map[string]string{
			"messaging.system": "redis", "messaging.destination.name": "next", "messaging.operation.type": "process",
			"messaging.consumer.group.name": "two", "messaging.message.id": r.ID,
		} {
			if got := attributeOf(second, key); got != want {
				t.Errorf("%s of %q is %q, want %q", key, second.Name(), got, want)
			}
		}
	})
}

// A call with several events has a span of its own, linked with those of the events, each in its
// own trace.
func TestTraceBatch(t *testing.T) {
	t.Parallel()
	b, _, spans := traced(t, stagetest.Embedded(t))
	publish(t, publisher(t, b, "in"), numbered("e", 5)...)
	var mu sync.Mutex
	within := map[trace.SpanID]int{} // events by the span of their call
	start(t, b, stage.Config{Name: "batch", In: "in"}, stage.Batch(8, func(ctx context.Context, in []stage.Event[string]) []stage.Result {
		mu.Lock()
		defer mu.Unlock()
		within[trace.SpanContextFromContext(ctx).SpanID()] = len(in)
		return make([]stage.Result, len(in))
	}))
	events := named(t, spans, "process in", 5)
	published := map[trace.SpanID]trace.SpanContext{}
	for _, s := range named(t, spans, "publish in", 5) {
		published[s.SpanContext().SpanID()] = s.SpanContext()
	}
	batch := named(t, spans, "process batch in", 1)[0]
	mu.Lock()
	defer mu.Unlock()
	if within[batch.SpanContext().SpanID()] != 5 || len(batch.Links()) != 5 || attributeOf(batch, "messaging.batch.message_count") != "5" {
		t.Errorf("handler calls by span: %v; the batch's has %d links and attributes %v; want 5 events in it", within, len(batch.Links()), batch.Attributes())
	}
	for _, l := range batch.Links() {
		if !published[l.SpanContext.SpanID()].IsValid() {
			t.Errorf("the batch is linked with %s, which is no publish", l.SpanContext.SpanID())
		}
	}
	for _, e := range events {
		follows(t, e, published[e.Parent().SpanID()])
		if len(e.Links()) != 1 || e.Links()[0].SpanContext.SpanID() != batch.SpanContext().SpanID() {
			t.Errorf("an event of the batch has links %v, want one with the batch", e.Links())
		}
	}
}

// A bare PUBLISH begins a trace when it is adopted, one for all groups.
func TestTraceAdopted(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b, _, spans := traced(t, o)
		for _, name := range []string{"one", "two"} {
			start(t, b, stage.Config{Name: name, In: "in"}, new(tally).sink())
		}
		stagetest.Eventually(t, "someone adopts", func() bool {
			s, err := inspect.New(b).Status(t.Context(), "in")
			return err == nil && s.Adopted
		})
		rdb := redis.NewClient(o)
		defer rdb.Close()
		if err := rdb.Publish(t.Context(), "in", "bare").Err(); err != nil {
			t.Fatal(err)
		}
		for _, s := range named(t, spans, "process in", 2) {
			follows(t, s, named(t, spans, "adopt in", 1)[0].SpanContext())
			if attributeOf(s, "milepost.adopted") != "true" {
				t.Errorf("attributes are %v, want milepost.adopted", s.Attributes())
			}
		}
	})
}

// An entry that somebody added without a traceparent has one trace over all attempts.
func TestTraceForeignEntry(t *testing.T) {
	t.Parallel()
	o := stagetest.Embedded(t)
	b, _, spans := traced(t, o)
	var tries atomic.Int32
	start(t, b, stage.Config{Name: "one", In: "in", BackoffMin: time.Millisecond}, stage.Each(func(context.Context, stage.Event[string]) (stage.Nothing, error) {
		if tries.Add(1) == 1 {
			panic("once")
		}
		return stage.Nothing{}, nil
	}))
	rdb := redis.NewClient(o)
	defer rdb.Close()
	if err := rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: "in", Values: []any{"payload", "x", "traceparent", "nonsense"}}).Err(); err != nil {
		t.Fatal(err)
	}
	attempts := named(t, spans, "process in", 2)
	if attempts[0].Parent().IsValid() {
		t.Errorf("a traceparent that is none became the parent %v", attempts[0].Parent())
	}
	follows(t, attempts[1], attempts[0].SpanContext())
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
