package stage

import (
	"cmp"
	"context"
	"fmt"
)

// Result is what a handler made of one event: its outputs, or the error that decides what becomes
// of the entry.
type Result struct {
	Out []Message
	Err error
	// Progress is shown in the event's progress, as JSON under the stage's name. Nil: that of
	// the first output that is a Progresser.
	Progress any
}

// Handler is a function over events that a [Stage] can run. Make one with [Each], [EachTo] or
// [Batch].
type Handler struct {
	max int // most events a call; 1 for the one-event forms
	// call puts the result of each delivery into out, which is as long as in.
	call func(ctx context.Context, in []*delivery, out []Result)
}

// Each handles one event a call and forwards what f returns to the stage's only output; with
// Out = [Nothing] it forwards nothing. Calls run concurrently, Config.Workers at most.
func Each[In, Out any](f func(ctx context.Context, e Event[In]) (Out, error)) Handler {
	return EachTo(func(ctx context.Context, e Event[In]) ([]Message, error) {
		out, err := f(ctx, e)
		if _, nothing := any(out).(Nothing); nothing || err != nil {
			return nil, err
		}
		return []Message{{Body: out}}, nil
	})
}

// EachTo handles one event a call and forwards any number of messages, each to the channel it
// names.
func EachTo[In any](f func(ctx context.Context, e Event[In]) ([]Message, error)) Handler {
	return Handler{max: 1, call: func(ctx context.Context, in []*delivery, out []Result) {
		body, err := decode[In](in[0].Payload)
		if err != nil {
			out[0].Err = Permanent(err)
			return
		}
		out[0].Out, out[0].Err = f(ctx, eventOf(in[0], body))
	}}
}

// Batch handles up to max events a call: those that have gathered, without waiting for more. f
// returns one Result for each event, in the same order. A panic, or a list of another length, is an
// error of every event of the call. From its third try on, and on its last, an event has a call of
// its own.
func Batch[In any](max int, f func(ctx context.Context, in []Event[In]) []Result) Handler {
	return Handler{max: max, call: func(ctx context.Context, in []*delivery, out []Result) {
		events, at := make([]Event[In], 0, len(in)), make([]int, 0, len(in))
		for i, d := range in {
			body, err := decode[In](d.Payload)
			if err != nil {
				out[i].Err = Permanent(err)
				continue
			}
			events, at = append(events, eventOf(d, body)), append(at, i)
		}
		if len(events) == 0 {
			return
		}
		results := f(ctx, events)
		for k, i := range at {
			if len(results) != len(events) {
				out[i].Err = fmt.Errorf("the handler returned %d results for %d events", len(results), len(events))
			} else {
				out[i] = results[k]
			}
		}
	}}
}

func eventOf[In any](d *delivery, body In) Event[In] {
	return Event[In]{
		ID: d.EventID, Body: body, At: d.Submitted(), Adopted: d.Adopted, Tracked: d.Tracked,
		Tries: d.Tries, Crashes: d.Crashes, Traceparent: cmp.Or(d.span, d.Traceparent),
		Entry: d.EntryID, Channel: d.lane.cfg.In, OwnedSince: d.lane.ownedSince(),
	}
}
