package email

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// traceWrite adds a span to the trace of each event: the writing of their lines, which began at
// start. It does nothing if the call is not traced.
func traceWrite(ctx context.Context, start time.Time, events []addressEvent, err error) {
	call := trace.SpanFromContext(ctx)
	if !call.SpanContext().IsValid() {
		return
	}
	tracer := call.TracerProvider().Tracer("github.com/milepost/milepost/services/email")
	end := trace.WithTimestamp(time.Now())
	for _, e := range events {
		_, span := tracer.Start(e.Context(ctx), "write sent_emails", trace.WithTimestamp(start),
			trace.WithAttributes(attribute.Int("milepost.batch.lines", len(events))))
		if err != nil {
			span.SetStatus(codes.Error, "the log takes no lines")
		}
		span.End(end)
	}
}
