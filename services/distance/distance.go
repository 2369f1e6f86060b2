// Package distance is the stage that computes the distance from the office to each submitted place.
package distance

import (
	"context"
	"fmt"
	"runtime"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/geodesy"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/telemetry"
)

type Deps struct {
	Broker *stage.Broker
	Office geodesy.Point
	Tuning config.Tuning
	Admin  *telemetry.Admin
}

// maxBatch is how many submissions one call of the handler gets. A call costs more than one
// distance.
const maxBatch = 256

// Run works on raw_input until ctx ends, then drains. It waits while Redis is away.
func Run(ctx context.Context, d Deps) error {
	c := d.Tuning.Apply(stage.Config{
		Name: "distance",
		In:   event.RawInput,
		Out:  []stage.Output{{Channel: event.CalculatedDistance}},
		// The rule only computes: more workers than processors gain nothing.
		Workers: runtime.GOMAXPROCS(0),
	})
	s, err := d.Broker.New(c, stage.Batch(maxBatch, From(d.Office)))
	if err != nil {
		return err
	}
	d.Admin.Watch(s.Name(), s.Ready)
	return s.Run(ctx)
}

// From returns the rule: each submission becomes a result with its distance from office, and with
// its address and coordinates unchanged. A submission with a wrong place becomes a dead letter.
func From(office geodesy.Point) func(context.Context, []stage.Event[event.Submission]) []stage.Result {
	return func(_ context.Context, in []stage.Event[event.Submission]) []stage.Result {
		out := make([]stage.Result, len(in))
		for i, e := range in {
			result, err := measure(office, e.Body)
			if err != nil {
				out[i].Err = stage.Permanent(err)
				continue
			}
			out[i].Out = []stage.Message{{Body: result}}
		}
		return out
	}
}

func measure(office geodesy.Point, s event.Submission) (event.Result, error) {
	place, err := s.Point()
	if err != nil {
		return event.Result{}, err
	}
	miles, err := geodesy.Miles(office, place)
	if err != nil {
		return event.Result{}, fmt.Errorf("measure from the office: %w", err)
	}
	return event.Result{Email: s.Email, Miles: miles, Lat: s.Lat, Long: s.Long}, nil
}
