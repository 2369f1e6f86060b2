// Package process is what all programs of the pipeline have in common: reading the environment, logs, the admin port,
// signals and the body of main.
//
// A main is a [Program] with its configuration type and a function:
//
//	process.Program[config]{
//		Name:  "distance",
//		Does:  "works out how far each submitted place is from the office",
//		Admin: "127.0.0.1:9101",
//		Run: func(ctx context.Context, cfg config, p *process.Process) error {
//			broker, err := p.Open(cfg.Broker)
//			if err != nil {
//				return err
//			}
//			defer broker.Close()
//			return distance.Run(ctx, distance.Deps{Broker: broker, Tuning: cfg.Tuning, Admin: p.Admin})
//		},
//	}.Main()
//
// A configuration type embeds what it needs, [Broker], [Mongo] or [Office], and adds fields of its own; see [Load] for their
// tags.
//
// # Telemetry
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
package process
