// Package telemetry is what a program tells its operators: logs, metrics, traces and the admin port.
//
// The admin port has /metrics; deploy/METRICS.md lists them. [Admin.Observe] counts and times what an HTTP server answers.
//
// Traces are on if OTEL_EXPORTER_OTLP_ENDPOINT names a collector that takes OTLP over HTTP, and cost nothing otherwise. A
// submission is one trace from its POST to its line in the log, over all programs: pkg/stage tells how. Read beside the
// endpoint are OTEL_EXPORTER_OTLP_HEADERS, _PROTOCOL (only http/protobuf), _TIMEOUT, _COMPRESSION, _CERTIFICATE,
// _CLIENT_CERTIFICATE and _CLIENT_KEY, each of them, the endpoint too, also as OTEL_EXPORTER_OTLP_TRACES_…; OTEL_SERVICE_NAME
// (default: the program's name), OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG, OTEL_BSP_…,
// OTEL_TRACES_EXPORTER (otlp or none) and OTEL_SDK_DISABLED. Nothing waits for a collector that is away: its spans are
// dropped, which is logged once, and the end of a program tries for two seconds to deliver the last ones.
//
// Log lines that speak of an event have its ID as event, and its trace's as trace. An email address stands in no label, no
// span and no log line: what comes before an @ in a value is left out.
package telemetry
