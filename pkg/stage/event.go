package stage

import "time"

// Event is one event as a handler sees it: the decoded payload of an entry and what travelled with
// it.
type Event[T any] struct {
	ID          string    // event ID, a UUID made once at the edge: the idempotency key everywhere
	Body        T         // the decoded payload
	At          time.Time // when the event was submitted, to the millisecond
	Adopted     bool      // came as a bare PUBLISH from elsewhere, so its ID was made on arrival
	Tracked     bool      // someone may watch its progress
	Tries       int       // how often a handler returned an error for it
	Crashes     int       // how many consumers died holding it
	Traceparent string    // W3C trace context of its handling here, else of its publishing; "" if none
	Entry       string    // entry ID in the stream, "ms-seq"; a retry of the event has another one
	Channel     string    // where it was read
	OwnedSince  time.Time // when this consumer took its shard from another one; zero if shards do not belong to one
}

// Message is an output: a payload for a channel. Make it with [To].
type Message struct {
	Channel string // "" means the stage's only output
	Body    any    // JSON; a string or []byte type is the bare bytes
}

// To addresses body to channel, for stages with more than one output.
func To(channel string, body any) Message { return Message{Channel: channel, Body: body} }

// Progresser is implemented by output bodies that have something to show in the event's progress,
// as JSON under the stage's name. It must hold nothing private.
type Progresser interface{ Progress() any }

// Nothing is the output type of a handler that forwards nothing.
type Nothing = struct{}
