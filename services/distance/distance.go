// Package distance is the stage that works out how far each submitted place is from the office.
package distance

import (
	"context"
	"fmt"
	"runtime"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/geodesy"
	"github.com/milepost/milepost/pkg/process"
	"github.com/milepost/milepost/pkg/stage"
)

// Deps is what the stage needs.
type Deps struct {
	Broker *stage.Broker
	Office geodesy.Point
	Tuning process.Tuning
	Admin  *process.Admin // may be nil
}

// Run works on raw_input until ctx ends, then drains. It waits for a Redis that is not there.
func Run(ctx context.Context, d Deps) error {
	c := d.Tuning.Apply(stage.Config{
		Name: "distance",
		In:   event.RawInput,
		Out:  []stage.Output{{Channel: event.CalculatedDistance}},
		// The rule computes and waits for nothing, so more workers than processors would only take turns.
		Workers: runtime.GOMAXPROCS(0),
	})
	s, err := d.Broker.New(c, stage.Each(From(d.Office)))
	if err != nil {
		return err
	}
	d.Admin.Watch(s.Name(), s.Ready)
	return s.Run(ctx)
}

// From returns the rule: a submission becomes a result with its distance from office. The address and the coordinates
// pass through as they came.
func From(office geodesy.Point) func(context.Context, stage.Event[event.Submission]) (event.Result, error) {
	return func(_ context.Context, e stage.Event[event.Submission]) (event.Result, error) {
		place, err := geodesy.Parse(e.Body.Lat, e.Body.Long)
		if err != nil {
			return event.Result{}, stage.Permanent(err)
		}
		miles, err := geodesy.Miles(office, place)
		if err != nil {
			return event.Result{}, stage.Permanent(fmt.Errorf("measure from the office: %w", err))
		}
		return event.Result{Email: e.Body.Email, Miles: miles, Lat: e.Body.Lat, Long: e.Body.Long}, nil
	}
}
