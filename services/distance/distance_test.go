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
	var in []stage.Event[event.Submission] // all cases in one batch: a bad one does not touch the others
	cases := []struct {
		name  string
		in    event.Submission
		miles float64
		fails error
	}{
		{name: "New York", in: event.Submission{Email: "ada@example.com", Lat: "40.7128", Long: "-74.0060"}, miles: 5679.936314229},
		{name: "beyond the pole", in: event.Submission{Email: "ada@example.com", Lat: "91", Long: "0"}, fails: stage.ErrPermanent},
		{name: "Sydney, wrapped", in: event.Submission{Email: "ada@example.com", Lat: "-33.8688", Long: "511.2093"}, miles: 8805.173516644},
		{name: "no number", in: event.Submission{Email: "ada@example.com", Lat: "here", Long: "0"}, fails: geodesy.ErrSyntax},
		{name: "the office", in: event.Submission{Email: "ada@example.com", Lat: "32.080058", Long: "34.864535"}, miles: 0},
		{name: "infinite", in: event.Submission{Email: "ada@example.com", Lat: "0", Long: "inf"}, fails: geodesy.ErrRange},
		{name: "missing longitude", in: event.Submission{Email: "ada@example.com", Lat: "0"}, fails: stage.ErrPermanent},
	}
	for _, tc := range cases {
		in = append(in, stage.Event[event.Submission]{ID: tc.name, Body: tc.in})
	}
	out := handle(t.Context(), in)
	if len(out) != len(in) {
		t.Fatalf("From(office)(%d events) = %d results", len(in), len(out))
	}
	for i, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if err := out[i].Err; !errors.Is(err, tc.fails) || err != nil && !errors.Is(err, stage.ErrPermanent) {
				t.Fatalf("From(office)(%+v): error %v, want a permanent %v", tc.in, err, tc.fails)
			}
			if tc.fails != nil {
				return
			}
			got, ok := out[i].Out[0].Body.(event.Result)
			want := event.Result{Email: tc.in.Email, Miles: got.Miles, Lat: tc.in.Lat, Long: tc.in.Long}
			if !ok || got != want || len(out[i].Out) != 1 || math.Abs(got.Miles-tc.miles) > 1e-9 {
				t.Errorf("From(office)(%+v) = %+v; want one result of %v miles with the rest unchanged", tc.in, out[i].Out, tc.miles)
			}
		})
	}
}
