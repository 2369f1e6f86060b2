package stage

import (
	"context"
	"errors"
	"log/slog"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// A traced event has one trace from its publishing on. Each entry carries the traceparent of the
// span that wrote it. That span is the parent of each attempt to handle the entry, and an attempt's
// span is the parent of what is forwarded.
//
//	publish raw_input ─ process raw_input (failed)
//	                  └ process raw_input ─ process calculated_distance ─ …
//
// Names and attributes are those of OpenTelemetry's semantic conventions for messaging. A span has
// only the kind of an error, since its text may hold what somebody typed.

func newTracer(p trace.TracerProvider) trace.Tracer {
	if p == nil {
		return nil
	}
	return p.Tracer("github.com/milepost/milepost/pkg/stage", trace.WithSchemaURL(semconv.SchemaURL))
}

// parseTraceparent reads a traceparent (https://www.w3.org/TR/trace-context/). One that cannot be
// read gives an invalid context, which is no parent.
func parseTraceparent(s string) trace.SpanContext {
	if s == "" {
		return trace.SpanContext{}
	}
	c := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": s})
	return trace.SpanContextFromContext(c)
}

func traceparent(c trace.SpanContext) string {
	m := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(trace.ContextWithSpanContext(context.Background(), c), m)
	return m["traceparent"]
}

// traceField is the log field with the trace's ID; without a trace it is empty, which slog leaves
// out.
func traceField(traceparent string) slog.Attr {
	if id := parseTraceparent(traceparent).TraceID(); id.IsValid() {
		return slog.String("trace", id.String())
	}
	return slog.Attr{}
}

// about are the log fields of the events of a call: of one, its ID and trace, else their number.
func about(in []*delivery) slog.Attr {
	if len(in) != 1 {
		return slog.Int("events", len(in))
	}
	return slog.Group("", "event", in[0].EventID, traceField(in[0].Traceparent))
}

// Context returns ctx within the event's own trace. A span that a batch handler begins with it
// belongs to that event's trace; one begun with ctx itself, to the batch's.
func (e Event[T]) Context(ctx context.Context) context.Context {
	if c := parseTraceparent(e.Traceparent); c.IsValid() {
		return trace.ContextWithRemoteSpanContext(ctx, c)
	}
	return ctx
}

// span begins the span of a publish, whose traceparent s carries from here on.
func (p *Publisher) span(ctx context.Context, s *Submission) trace.Span {
	if c := parseTraceparent(s.Traceparent); c.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, c)
	}
	_, span := p.b.tracer.Start(ctx, "publish "+p.channel, trace.WithSpanKind(trace.SpanKindProducer),
		sending("publish", p.channel, s.ID))
	s.Traceparent = traceparent(span.SpanContext())
	return span
}

// adopted makes the trace of an adopted event and returns its traceparent.
func (s *Stage) adopted(id string) string {
	if s.b.tracer == nil {
		return ""
	}
	_, span := s.b.tracer.Start(context.Background(), "adopt "+s.cfg.In, trace.WithSpanKind(trace.SpanKindProducer),
		sending("adopt", s.cfg.In, id))
	defer span.End()
	return traceparent(span.SpanContext())
}

func sending(operation, channel, id string) trace.SpanStartOption {
	return trace.WithAttributes(semconv.MessagingSystemKey.String("redis"), semconv.MessagingOperationTypeSend,
		semconv.MessagingOperationName(operation), semconv.MessagingDestinationName(channel), semconv.MessagingMessageID(id))
}

// spans are those of one handler call: one for each event, in that event's trace, and for several
// events one for the call, linked both ways.
type spans struct {
	each []trace.Span
	all  trace.Span // the parent of the handler's own spans
}

// begin begins the spans of a call; nil without a tracer.
func (s *Stage) begin(in []*delivery) *spans {
	if s.b.tracer == nil {
		return nil
	}
	common := []attribute.KeyValue{semconv.MessagingSystemKey.String("redis"), semconv.MessagingOperationTypeProcess,
		semconv.MessagingDestinationName(s.cfg.In), semconv.MessagingConsumerGroupName(s.cfg.Name)}
	p := &spans{each: make([]trace.Span, len(in))}
	var link []trace.Link
	if len(in) > 1 {
		links := make([]trace.Link, 0, len(in))
		for _, d := range in {
			if c := parseTraceparent(d.Traceparent); c.IsValid() {
				links = append(links, trace.Link{SpanContext: c})
			}
		}
		_, p.all = s.b.tracer.Start(context.Background(), "process batch "+s.cfg.In, trace.WithSpanKind(trace.SpanKindConsumer),
			trace.WithLinks(links...), trace.WithAttributes(common...), trace.WithAttributes(
				semconv.MessagingOperationName("process batch"), semconv.MessagingBatchMessageCount(len(in))))
		link = []trace.Link{{SpanContext: p.all.SpanContext()}}
	}
	for i, d := range in {
		parent := parseTraceparent(d.Traceparent)
		ctx := trace.ContextWithRemoteSpanContext(context.Background(), parent)
		_, p.each[i] = s.b.tracer.Start(ctx, "process "+s.cfg.In, trace.WithSpanKind(trace.SpanKindConsumer),
			trace.WithLinks(link...), trace.WithAttributes(common...), trace.WithAttributes(
				semconv.MessagingOperationName("process"), semconv.MessagingMessageID(d.EventID),
				attribute.String("milepost.entry", d.EntryID), attribute.Int("milepost.tries", d.Tries),
				attribute.Int("milepost.crashes", d.Crashes), attribute.Bool("milepost.adopted", d.Adopted)))
		d.span = traceparent(p.each[i].SpanContext())
		if !parent.IsValid() {
			d.Traceparent = d.span // so that further attempts are in the same trace
		}
	}
	if p.all == nil {
		p.all = p.each[0]
	}
	return p
}

// in is ctx within the call's span.
func (p *spans) in(ctx context.Context) context.Context {
	if p == nil {
		return ctx
	}
	return trace.ContextWithSpan(ctx, p.all)
}

// end ends the spans with the handler's results.
func (p *spans) end(results []Result) {
	if p == nil {
		return
	}
	for i, span := range p.each {
		endSpan(span, results[i].Err)
	}
	p.all.End() // for one event this is the same span, and a second End does nothing
}

func endSpan(span trace.Span, err error) {
	if err != nil {
		kind := errorKind(err)
		span.SetStatus(codes.Error, kind)
		span.SetAttributes(semconv.ErrorTypeKey.String(kind))
	}
	span.End()
}

func errorKind(err error) string {
	for _, k := range []struct {
		of   error
		name string
	}{
		{ErrPermanent, "permanent"}, {ErrDown, "dependency down"}, {ErrUnavailable, "redis away"}, {ErrRefused, "redis refuses"}, {ErrBacklog, "backlog"},
		{ErrKeyReused, "key reused"}, {ErrClosed, "closed"}, {context.DeadlineExceeded, "timeout"}, {context.Canceled, "canceled"},
	} {
		if errors.Is(err, k.of) {
			return k.name
		}
	}
	if errors.As(err, new(*LimitError)) {
		return "limit"
	}
	return "error"
}
