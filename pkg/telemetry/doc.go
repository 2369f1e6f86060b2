// Package telemetry has what a program tells its operators: logs, metrics, traces and the admin
// port.
//
// [Logging] opens the log. [Admin] is the admin port with /healthz, /readyz and /metrics, which
// deploy/METRICS.md lists; [Admin.Watch] adds what readiness depends on, and [Admin.Observe] counts
// and times HTTP requests. [Tracing] opens the traces.
//
// # Traces
//
// Traces are on if OTEL_EXPORTER_OTLP_ENDPOINT names a collector that accepts OTLP over HTTP. The
// trace of a submission goes from its POST to its line in the log, through all programs. The
// collector may be away: its spans are dropped, which is logged once, and an ending program tries
// for two seconds to deliver the last ones. These variables of OpenTelemetry are read:
//
//   - OTEL_EXPORTER_OTLP_ENDPOINT, _HEADERS, _PROTOCOL (only http/protobuf), _TIMEOUT, _COMPRESSION,
//     _CERTIFICATE, _CLIENT_CERTIFICATE, _CLIENT_KEY, and the same with OTEL_EXPORTER_OTLP_TRACES_
//   - OTEL_SERVICE_NAME (default: the program's name), OTEL_RESOURCE_ATTRIBUTES
//   - OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG, OTEL_BSP_…
//   - OTEL_TRACES_EXPORTER (otlp or none), OTEL_SDK_DISABLED
//
// # Privacy
//
// A log line about an event has its ID as event and its trace as trace. No label, span or log line
// holds an email address: the part before an @ in a value is replaced by an ellipsis.
package telemetry
