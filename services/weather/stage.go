package weather

import (
	"context"
	"errors"
	"strconv"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage"
)

// Report is what the stage publishes on weather_report.
type Report struct {
	ID          string        `json:"id"` // event ID of the submission
	Lat         event.Decimal `json:"lat"`
	Long        event.Decimal `json:"long"`
	Temperature float64       `json:"temperature"` // °C, of the S2 cell around the place
	Source      string        `json:"source"`
}

// Progress is what watchers of the event may see: the temperature, without the place.
func (r Report) Progress() any {
	return struct {
		Temperature string `json:"temperature"`
	}{strconv.FormatFloat(r.Temperature, 'f', 1, 64) + " °C"}
}

// Handle reports the temperature at the submitted place, which is then in the cache. If the
// provider has no answer, the event is done without a report; the next event of the place asks
// again.
func (w *Weather) Handle(ctx context.Context, e stage.Event[event.Submission]) ([]stage.Message, error) {
	place, err := e.Body.Point()
	if err != nil {
		return nil, stage.Permanent(err)
	}
	r, err := w.At(ctx, place)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return nil, ctx.Err() // this replica stops; another replica takes the event
	case err != nil:
		return nil, nil //nolint:nilerr // cache and provider count it
	}
	return []stage.Message{{Body: Report{
		ID: e.ID, Lat: e.Body.Lat, Long: e.Body.Long, Temperature: r.Value.Temperature, Source: source(r),
	}}}, nil
}
