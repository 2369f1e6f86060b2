package email

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage"
)

// traceWrite adds the writing of n lines, which began at start, to the trace of each line's event. It does nothing if the call
// is not traced.
func traceWrite(ctx context.Context, start time.Time, n int, of func(line int) stage.Event[event.Address], err error) {
	call := trace.SpanFromContext(ctx)
	if !call.SpanContext().IsValid() {
		return
	}
	tracer := call.TracerProvider().Tracer("github.com/milepost/milepost/services/email")
	end := trace.WithTimestamp(time.Now())
	for i := range n {
		_, span := tracer.Start(of(i).Context(ctx), "write sent_emails", trace.WithTimestamp(start),
			trace.WithAttributes(attribute.Int("milepost.batch.lines", n)))
		if err != nil {
			span.SetStatus(codes.Error, "the log takes no lines")
		}
		span.End(end)
	}
}
