package stage

import (
	"errors"
	"time"

	"github.com/milepost/milepost/pkg/stage/internal/link"
)

// Errors that this package returns, for errors.Is.
var (
	// ErrPermanent marks an error that no retry will mend; see [Permanent].
	ErrPermanent = errors.New("permanent")
	// ErrDown marks an error of something the handler depends on; see [Down].
	ErrDown = errors.New("dependency down")
	// ErrBacklog: a required group has more than MaxBacklog unsettled entries. Try later.
	ErrBacklog = errors.New("too many events are waiting")
	// ErrKeyReused: the idempotency key was used for another body.
	ErrKeyReused = errors.New("idempotency key was used for another body")
	// ErrUnavailable: Redis is away, loading or read-only, or its reply was lost: a publish may
	// or may not have been kept.
	ErrUnavailable = link.ErrUnavailable
	// ErrRefused: Redis is full, or a key of the pipeline has another type: nothing was kept.
	ErrRefused = link.ErrRefused
	// ErrClosed: the publisher or the watcher was closed.
	ErrClosed = errors.New("the publisher is closed")
	// ErrCluster: this Redis Cluster cannot run the pipeline, and waiting does not help.
	ErrCluster = errors.New("the pipeline cannot run on this Redis Cluster")
	// ErrShards: a stage has more writers than the pipeline has shards, and waiting does not help.
	ErrShards = errors.New("not enough shards")
	// ErrNotFound: no such dead letter, group or channel.
	ErrNotFound = errors.New("not found")
)

// ShardError says which shard of a Redis Cluster has no master now. ErrUnavailable wraps it.
type ShardError = link.ShardError

type marked struct {
	error
	mark  error
	after time.Duration
}

func (m *marked) Unwrap() []error { return []error{m.error, m.mark} }

// Permanent marks err as one that no retry will mend: the entry becomes a dead letter at once.
func Permanent(err error) error { return &marked{error: err, mark: ErrPermanent} }

// Down marks err as an outage of something the handler needs. The stage pauses and the entry stays
// pending, with nothing counted, until Config.Probe succeeds; without a probe, for a second.
func Down(err error) error { return &marked{error: err, mark: ErrDown} }

// RetryAfter makes the entry due again after d, instead of the usual backoff. It counts as a try.
func RetryAfter(err error, d time.Duration) error {
	return &marked{error: err, mark: errRetryAfter, after: d}
}

var errRetryAfter = errors.New("retry after")
