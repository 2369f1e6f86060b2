package telemetry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/milepost/milepost/pkg/config"
)

// Tracing configures traces. The package comment names more variables.
type Tracing struct {
	Endpoint       config.HTTPURL `env:"OTEL_EXPORTER_OTLP_ENDPOINT" help:"collector of traces, over OTLP/HTTP, such as http://127.0.0.1:4318; unset: no traces"`
	TracesEndpoint config.HTTPURL `env:"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" help:"the same with its path, such as http://127.0.0.1:4318/v1/traces"`
	Headers        string         `env:"OTEL_EXPORTER_OTLP_HEADERS" secret:"yes" help:"headers for the collector, as name=value,name=value"`
}

// flushMost is how long an ending program waits until its last spans are delivered.
const flushMost = 2 * time.Second

// Open makes the tracer provider of the program name; nil if traces are off. Spans that are not
// delivered are dropped. Only flush waits for the collector: it delivers the remaining spans, in 2
// s at most, and ends the provider.
func (t Tracing) Open(getenv func(string) string, name, version string, log *slog.Logger) (p *sdktrace.TracerProvider, flush func(), err error) {
	off, _ := strconv.ParseBool(getenv("OTEL_SDK_DISABLED"))
	if off || t.Endpoint == "" && t.TracesEndpoint == "" {
		return nil, func() {}, nil
	}
	switch e := getenv("OTEL_TRACES_EXPORTER"); e {
	case "none":
		return nil, func() {}, nil
	case "", "otlp":
	default:
		return nil, nil, &config.VariableError{Name: "OTEL_TRACES_EXPORTER", Value: e, Why: "is not otlp or none"}
	}
	o := otlp{getenv}
	client, err := o.collector(cmp.Or(string(t.TracesEndpoint), string(t.Endpoint)+"/v1/traces"), cmp.Or(getenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS"), t.Headers), log)
	if err != nil {
		return nil, nil, err
	}
	exporter, err := otlptrace.New(context.Background(), client)
	if err != nil {
		return nil, nil, fmt.Errorf("traces: %w", err)
	}
	// The environment overrides our attributes.
	about, err := resource.New(context.Background(), resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(semconv.ServiceName(name), semconv.ServiceVersion(version)), resource.WithFromEnv())
	if err != nil && about == nil {
		return nil, nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("tracing", "err", err) }))
	log.Info("tracing", "to", config.Mask(client.url))
	p = sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	return p, func() {
		ctx, cancel := context.WithTimeout(context.Background(), flushMost)
		defer cancel()
		if err := p.Shutdown(ctx); err != nil && !client.failing.Load() {
			log.Warn("the last traces were not delivered", "err", err)
		}
	}, nil
}

// Trace sets the provider of Tracer, Observe and Transport, before they are called; nil turns
// traces off.
func (a *Admin) Trace(p *sdktrace.TracerProvider) { a.tracer = p }

// Tracer returns the tracer provider; nil if traces are off.
func (a *Admin) Tracer() trace.TracerProvider {
	if a.tracer == nil {
		return nil // not an interface that holds a nil pointer
	}
	return a.tracer
}

// otlp reads OpenTelemetry's variables of the exporter. OTEL_EXPORTER_OTLP_TRACES_… overrides
// OTEL_EXPORTER_OTLP_…
type otlp struct{ getenv func(string) string }

func (o otlp) get(what string) (name, value string) {
	for _, name = range []string{"OTEL_EXPORTER_OTLP_TRACES_" + what, "OTEL_EXPORTER_OTLP_" + what} {
		if value = o.getenv(name); value != "" {
			return name, value
		}
	}
	return name, ""
}

// headers reads "name=value,name=value", each value escaped as in a URL.
func headers(text string) (map[string]string, error) {
	out := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		name = strings.TrimSpace(name)
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if !ok || err != nil || name == "" || strings.ContainsAny(name+value, "\r\n\x00") {
			return nil, errors.New("OTEL_EXPORTER_OTLP_HEADERS: is not name=value,name=value")
		}
		out[name] = value
	}
	return out, nil
}
