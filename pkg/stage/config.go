package stage

import (
	"context"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"
)

// Options says how to open a pipeline's Redis. The zero value of a field means its default.
type Options struct {
	Redis *redis.Options // required: address, credentials, TLS; Open overrides retries and timeouts
	Log   *slog.Logger   // default: slog.Default()
	// Timeout is how long a connection, or an answer of Redis, may take. Default 5 s.
	Timeout time.Duration
	// Tracer makes spans of publishing, adopting and handling: one trace for each event,
	// through all stages. Nil: no spans; an entry's traceparent is passed on.
	Tracer trace.TracerProvider
	// Prefix stands before every key and channel. It separates pipelines that share a Redis.
	// Default none; a database other than 0 needs one, because Pub/Sub knows no databases. It
	// has no braces.
	Prefix string

	// Nodes are further nodes of a Redis Cluster, asked if the one in Redis does not answer.
	// Shards is how many a pipeline has there; it is fixed when the pipeline first starts.
	// Default 16. Tools, which start none, set -1: they find the number. A single Redis is one
	// shard.
	Nodes  []string
	Shards int

	Lease       time.Duration // how long a consumer may be silent before it counts as gone. Default 3 s
	MaxBacklog  int           // unsettled entries a channel may hold before publishing is refused. Default 1,000,000
	KeepEntries int           // entries an unread output keeps. Default 10,000
	MaxDead     int           // dead letters a channel keeps; the oldest go first. Default 100,000

	// WaitReplicas is how many replicas of Redis must have what a Publisher publishes. If fewer
	// have it after WaitTimeout (default 500 ms), Publish fails with ErrUnavailable, and the
	// event may or may not have been kept. Default 0.
	WaitReplicas int
	WaitTimeout  time.Duration
}

// Output is a channel that a stage forwards to.
type Output struct {
	Channel string
	Unread  bool // may have no group: then it keeps its last KeepEntries and never blocks the stage
}

// Config describes a stage. The zero value of a field means its default.
type Config struct {
	Name string   // required: the stage's name, and its consumer group's
	In   string   // required: the channel it reads
	Out  []Output // the channels it may forward to

	Optional bool // never blocks publishing: over MaxBacklog it is trimmed past and its loss counted
	NoAdopt  bool // do not put bare PUBLISHes of In into its stream

	// Consumer is the name of a lasting consumer: however long it is away, its pending entries
	// are not taken over, and it reads them first when it returns. The caller makes sure that
	// only one process runs it. Default: "<host>-<pid>-<random>", taken over one lease after it
	// falls silent.
	Consumer string

	// Writer and Writers divide the shards of a Redis Cluster among lasting consumers, each
	// with its own name: this one, number Writer from 0, wants the shards whose number modulo
	// Writers is Writer. A shard changes hands only if its last writer has given it up. Default
	// 0 of 1. Run fails with ErrShards if there are more writers than shards; a single Redis
	// has one.
	Writer, Writers int

	Workers    int           // handler calls at once. Default 64 (one-event handlers), 1 (batch handlers)
	Prefetch   int           // entries read and not yet settled. Default 1024
	Timeout    time.Duration // of one handler call. Default 30 s
	MaxTries   int           // errors before an entry becomes a dead letter. Default 8
	BackoffMin time.Duration // first delay after an error, doubled each time, with jitter. Default 200 ms
	BackoffMax time.Duration // Default 5 min
	Drain      time.Duration // how long a stopping stage may finish what it holds. Default 10 s

	// Probe returns nil if what the handler depends on is there. It is called after a handler's
	// error, and each second while the stage is paused. Nil: an ordinary error never pauses the
	// stage.
	Probe func(context.Context) error
}
