package stage

import (
	"context"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"
)

// Options opens a pipeline's Redis. The zero value of a field means the default it names.
type Options struct {
	Redis *redis.Options // required: address, credentials, TLS; the client's own settings are overridden where they matter
	Log   *slog.Logger   // default: slog.Default()
	// Tracer makes spans of publishing, adopting and handling, one trace for each event through all stages. Nil: none, and
	// whatever traceparent an entry has is passed on.
	Tracer trace.TracerProvider

	Lease       time.Duration // how long a consumer may be silent before it counts as gone. Default 10 s
	MaxBacklog  int           // unsettled entries a channel may hold before publishing is refused. Default 1,000,000
	KeepEntries int           // entries an unread output keeps. Default 10,000
	MaxDead     int           // dead letters a channel keeps; the oldest go first. Default 100,000
}

// Output is a channel that a stage forwards to.
type Output struct {
	Channel string
	Unread  bool // nobody need read it: it keeps its last KeepEntries while it has no group, and never holds the stage up
}

// Config describes a stage. The zero value of a field means the default it names.
type Config struct {
	Name string   // required: the stage's name, and its consumer group's
	In   string   // required: the channel it reads
	Out  []Output // the channels it may forward to

	Optional bool // an optional group never holds the edge up: over MaxBacklog it is trimmed past and its loss counted
	NoAdopt  bool // do not put bare PUBLISHes of In into its stream

	// Consumer is a lasting identity, of which only one process may run at a time (the owner sees to that): nobody else
	// takes over its pending entries, however long it is away, and it reads them first when it returns.
	// Default: "<host>-<pid>-<random>", taken over by others one lease after it falls silent.
	Consumer string

	Workers    int           // handler calls at once. Default 64 (one-event handlers), 1 (batch handlers)
	Prefetch   int           // entries read and not yet settled. Default 1024
	Timeout    time.Duration // of one handler call. Default 30 s
	MaxTries   int           // errors before an entry becomes a dead letter. Default 8
	BackoffMin time.Duration // first delay after an error, doubled each time, with jitter. Default 200 ms
	BackoffMax time.Duration // Default 5 min
	Drain      time.Duration // how long a stopping stage may finish what it holds. Default 10 s

	// Probe asks whether what the handler depends on is there. It is called when a handler returned an error, and each
	// second while the stage is paused. Nil: an ordinary error never pauses the stage.
	Probe func(context.Context) error
}
