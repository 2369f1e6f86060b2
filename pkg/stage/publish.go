package stage

import (
	"context"
	"time"
)

// Submission is one event to publish at the edge of the pipeline.
type Submission struct {
	ID          string    // event ID; "" makes a UUIDv7
	Body        any       // encoded as codec.go says
	At          time.Time // zero means now
	Track       bool      // record its progress for an hour
	Traceparent string

	// Key is an idempotency key, "" for none: a second submission with it within 24 h publishes nothing and gets the
	// first one's ID; with another Digest it gets ErrKeyReused. Looked up, reserved and published by one script.
	Key    string
	Digest string  // of the body, to tell a repeat from a reuse
	Limits []Limit // checked after Key, counted only if kept
}

// Limit allows Max submissions in Per for all that share Name, across processes.
type Limit struct {
	Name string
	Max  int
	Per  time.Duration
}

// Receipt is the answer to a publish.
type Receipt struct {
	ID     string // event ID: the submission's own, or the first one's under the same key
	Repeat bool   // the key was known; nothing was published
}

// Publisher publishes on one channel. Concurrent calls share round trips: one script is under way, the next takes what
// has gathered meanwhile.
type Publisher struct{}

// Publisher makes a publisher for channel. Registered as stage name in the registry (for status), with channel as output.
// Close it to stop it.
func (b *Broker) Publisher(name, channel string) *Publisher { panic("not built yet") }

// Publish keeps s in the channel's stream and publishes it, and returns once Redis has answered.
// Errors: [ErrBacklog], [ErrKeyReused], [*LimitError], [ErrUnavailable], a codec error, ctx's error. After
// ErrUnavailable or ctx's error the event may or may not have been kept.
func (p *Publisher) Publish(ctx context.Context, s Submission) (Receipt, error) { panic("not built yet") }

// Close waits for what is under way.
func (p *Publisher) Close() error { panic("not built yet") }
