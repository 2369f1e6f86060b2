package stage

import "time"

// Event is one event as a handler sees it: the decoded payload of an entry and what travelled with it. Its own strings are parts
// of the reply that it was read with, up to 256 entries: who keeps one for long keeps a strings.Clone of it.
type Event[T any] struct {
	ID          string    // event ID, a UUID made once at the edge: the idempotency key everywhere
	Body        T         // the decoded payload
	At          time.Time // when the event was submitted, to the millisecond
	Adopted     bool      // came as a bare PUBLISH from elsewhere, so its ID was made on arrival
	Tracked     bool      // someone may watch its progress
	Tries       int       // how often a handler returned an error for it
	Crashes     int       // how many consumers died holding it
	Traceparent string    // W3C trace context of its handling here, or of whoever published it; "" if none
	Entry       string    // entry ID in the stream, "ms-seq"; differs between deliveries of one event
	Channel     string    // where it was read
}

// Message is an output: a payload for a channel. Make it with [To].
type Message struct {
	Channel string // "" means the stage's only output
	Body    any    // encoded as the package comment of codec.go says
}

// To addresses body to channel, for stages with more than one output.
func To(channel string, body any) Message { return Message{Channel: channel, Body: body} }

// Progresser is implemented by output bodies that show something of themselves to whoever watches the event:
// the value is encoded as JSON under the stage's name in the event's progress. It must hold nothing private.
type Progresser interface{ Progress() any }

// Nothing is the output type of a handler that forwards nothing.
type Nothing = struct{}
