package stage

import (
	"cmp"
	"context"
)

// Result is what a handler made of one event: its outputs, or the error that decides what becomes of the entry.
type Result struct {
	Out []Message
	Err error
	// Progress is shown to whoever watches the event, as JSON under the stage's name. Nil takes that of the first
	// output that is a Progresser.
	Progress any
}

// Handler is a function over events that a [Stage] can run. Make one with [Each], [EachTo] or [Batch].
type Handler struct {
	max    int // most events a call; 1 for the one-event forms
	decode func(payload []byte) (any, error)
	call   func(ctx context.Context, in []*delivery) []Result
}

// Each handles one event a call and forwards what f returns to the stage's only output.
// With Out = [Nothing] it forwards nothing. Calls run concurrently, Config.Workers at most.
func Each[In, Out any](f func(ctx context.Context, e Event[In]) (Out, error)) Handler {
	return EachTo(func(ctx context.Context, e Event[In]) ([]Message, error) {
		out, err := f(ctx, e)
		if _, nothing := any(out).(Nothing); nothing || err != nil {
			return nil, err
		}
		return []Message{{Body: out}}, nil
	})
}

// EachTo handles one event a call and forwards any number of messages, each to the channel it names.
func EachTo[In any](f func(ctx context.Context, e Event[In]) ([]Message, error)) Handler {
	h := Batch(1, func(ctx context.Context, in []Event[In]) []Result {
		out, err := f(ctx, in[0])
		return []Result{{Out: out, Err: err}}
	})
	return h
}

// Batch handles up to max events a call (what has gathered, without waiting for more). f returns one Result per event,
// in the same order. A panic or a result of another length counts as an error of every event of the call.
func Batch[In any](max int, f func(ctx context.Context, in []Event[In]) []Result) Handler {
	return Handler{
		max:    max,
		decode: func(payload []byte) (any, error) { return decode[In](payload) },
		call: func(ctx context.Context, in []*delivery) []Result {
			events := make([]Event[In], len(in))
			for i, d := range in {
				body, _ := d.body.(In)
				events[i] = Event[In]{
					ID: d.id, Body: body, At: d.at, Adopted: d.adopted, Tracked: d.tracked, Tries: d.tries,
					Crashes: d.crashes, Traceparent: cmp.Or(d.span, d.traceparent), Entry: d.entry, Channel: d.channel,
				}
			}
			return f(ctx, events)
		},
	}
}
