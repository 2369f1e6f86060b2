package telemetry

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// httpMetrics are the metrics of all HTTP servers of a program.
type httpMetrics struct {
	once     sync.Once
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func (m *httpMetrics) register(r *prometheus.Registry) {
	m.once.Do(func() {
		m.requests = prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "http_requests_total", Help: "Requests answered, by method, template of the route (or other) and status.",
		}, []string{"method", "route", "code"})
		m.seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "http_request_duration_seconds", Help: "Time to answer a request, streams aside, by method and template of the route.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2.5, 11),
		}, []string{"method", "route"})
		r.MustRegister(m.requests, m.seconds)
	})
}

// other is the label of routes and methods that a client can invent.
const other = "other"

var methods = map[string]bool{"GET": true, "HEAD": true, "POST": true, "PUT": true, "PATCH": true, "DELETE": true, "OPTIONS": true}

// Observe counts and times the requests to h, and gives each a span if traces are on. The label
// route is the request's Pattern, as [http.ServeMux] sets it, or "other". A request for which
// trusted is true (nil: every one) continues the trace that it names; any other starts a trace with
// a link to it. While the program stops, every connection is closed after its answer.
func (a *Admin) Observe(h http.Handler, trusted func(*http.Request) bool) http.Handler {
	a.http.register(a.registry)
	var tracer trace.Tracer
	if p := a.Tracer(); p != nil {
		tracer = p.Tracer(scope)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		method := r.Method
		if !methods[method] {
			method = other
		}
		var span trace.Span
		if tracer != nil {
			r, span = begin(tracer, r, method, trusted == nil || trusted(r))
		}
		if a.stopping.Load() {
			w.Header().Set("Connection", "close")
		}
		answer := &answer{ResponseWriter: w}
		defer func() { // also if h panics
			route, code := other, answer.code()
			if r.Pattern != "" {
				route = r.Pattern[strings.IndexByte(r.Pattern, ' ')+1:]
			}
			a.http.requests.WithLabelValues(method, route, strconv.Itoa(code)).Inc()
			// A stream lasts as long as its reader wants.
			if !strings.HasPrefix(w.Header().Get("Content-Type"), "text/event-stream") {
				a.http.seconds.WithLabelValues(method, route).Observe(time.Since(start).Seconds())
			}
			if span != nil {
				end(span, method, route, code)
			}
		}()
		h.ServeHTTP(answer, r)
		answer.done = true
	})
}

const scope = "github.com/milepost/milepost/pkg/telemetry"

func begin(tracer trace.Tracer, r *http.Request, method string, trusted bool) (*http.Request, trace.Span) {
	from := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	o := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(semconv.HTTPRequestMethodKey.String(method))}
	if c := trace.SpanContextFromContext(from); !trusted && c.IsValid() {
		from = r.Context()
		o = append(o, trace.WithLinks(trace.Link{SpanContext: c}))
	}
	ctx, span := tracer.Start(from, method, o...)
	return r.WithContext(ctx), span
}

// end names the span after the route, since a path may hold an email address.
func end(span trace.Span, method, route string, code int) {
	if route != other {
		span.SetName(method + " " + route)
		span.SetAttributes(semconv.HTTPRoute(route))
	}
	span.SetAttributes(semconv.HTTPResponseStatusCode(code))
	if code >= 500 {
		span.SetStatus(codes.Error, http.StatusText(code))
	}
	span.End()
}

type answer struct {
	http.ResponseWriter
	status int  // 0: not written
	done   bool // the handler has returned
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= 200 { // not an informational one
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) code() int {
	switch {
	case a.status > 0:
		return a.status
	case a.done:
		return http.StatusOK
	default:
		return http.StatusInternalServerError
	}
}

// Unwrap is for [http.ResponseController].
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Transport returns base, which gives requests a span and a traceparent header if traces are on.
func (a *Admin) Transport(base http.RoundTripper) http.RoundTripper {
	p := a.Tracer()
	if p == nil {
		return base
	}
	return &tracedTransport{base, p.Tracer(scope)}
}

type tracedTransport struct {
	base   http.RoundTripper
	tracer trace.Tracer
}

// RoundTrip implements http.RoundTripper. The span ends when the headers of the answer are there.
func (t *tracedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, span := t.tracer.Start(r.Context(), r.Method, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		semconv.HTTPRequestMethodKey.String(r.Method), semconv.ServerAddress(r.URL.Hostname())))
	defer span.End()
	r = r.Clone(ctx)
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(r.Header))
	response, err := t.base.RoundTrip(r)
	switch {
	case err != nil:
		kind := "error"
		if ctx.Err() != nil {
			kind = context.Cause(ctx).Error()
		}
		span.SetStatus(codes.Error, kind)
	default:
		span.SetAttributes(semconv.HTTPResponseStatusCode(response.StatusCode))
		if response.StatusCode >= 400 {
			span.SetStatus(codes.Error, http.StatusText(response.StatusCode))
		}
	}
	return response, err
}
