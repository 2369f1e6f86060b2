package distance_test

import (
	"errors"
	"math"
	"testing"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/geodesy"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/services/distance"
)

func TestFrom(t *testing.T) {
	office, err := geodesy.Degrees(32.080058, 34.864535)
	if err != nil {
		t.Fatal(err)
	}
	handle := distance.From(office)
	for name, tc := range map[string]struct {
		in    event.Submission
		miles float64
		fails error
	}{
		"New York":          {in: event.Submission{Email: "ada@example.com", Lat: "40.7128", Long: "-74.0060"}, miles: 5679.936314229},
		"Sydney, wrapped":   {in: event.Submission{Email: "ada@example.com", Lat: "-33.8688", Long: "511.2093"}, miles: 8805.173516644},
		"the office":        {in: event.Submission{Email: "ada@example.com", Lat: "32.080058", Long: "34.864535"}, miles: 0},
		"beyond the pole":   {in: event.Submission{Email: "ada@example.com", Lat: "91", Long: "0"}, fails: stage.ErrPermanent},
		"no number":         {in: event.Submission{Email: "ada@example.com", Lat: "here", Long: "0"}, fails: geodesy.ErrSyntax},
		"infinite":          {in: event.Submission{Email: "ada@example.com", Lat: "0", Long: "inf"}, fails: geodesy.ErrRange},
		"missing longitude": {in: event.Submission{Email: "ada@example.com", Lat: "0"}, fails: stage.ErrPermanent},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := handle(t.Context(), stage.Event[event.Submission]{ID: "ev-1", Body: tc.in})
			if !errors.Is(err, tc.fails) {
				t.Fatalf("From(office)(%+v) = %+v, %v; want error %v", tc.in, got, err, tc.fails)
			}
			if err != nil {
				return
			}
			want := event.Result{Email: tc.in.Email, Miles: got.Miles, Lat: tc.in.Lat, Long: tc.in.Long}
			if got != want || math.Abs(got.Miles-tc.miles) > 1e-9 {
				t.Errorf("From(office)(%+v) = %+v; want %v miles and the rest unchanged", tc.in, got, tc.miles)
			}
		})
	}
}
