package webapi

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/geodesy"
)

// TestPlace has its table in a file because the browser tests hold the page's own reading to the
// same one.
func TestPlace(t *testing.T) {
	raw, err := os.ReadFile("testdata/coordinates.json")
	if err != nil {
		t.Fatal(err)
	}
	var table []struct {
		Lat, Long string
		Want      [2]string
	}
	if err := json.Unmarshal(raw, &table); err != nil || len(table) == 0 {
		t.Fatalf("%d cases, %v", len(table), err)
	}
	for _, tc := range table {
		lat, long, wrong := place(tc.Lat, tc.Long)
		if lat != tc.Want[0] || long != tc.Want[1] || len(wrong) > 0 {
			t.Errorf("place(%q, %q) = %q, %q, %v; want %q", tc.Lat, tc.Long, lat, long, wrong, tc.Want)
		}
		if _, err := geodesy.Parse(lat, long); err != nil {
			t.Errorf("place(%q, %q) = %q, %q: %v", tc.Lat, tc.Long, lat, long, err)
		}
	}
}

// TestPlaceExplained are texts that are no place: the form must say why.
func TestPlaceExplained(t *testing.T) {
	for _, tc := range []struct{ lat, long, field, says string }{
		{"", "", "lat", "missing"},
		{"abc", "1", "lat", "not a number"},
		{"91", "1", "lat", "not in [-90, 90]"},
		{"74.0060 W", "1", "lat", "says W, but a latitude is N or S"},
		{"1", "40 N", "long", "says N, but a longitude is E or W"},
		{"-33 S", "1", "lat", "leave one of them out"},
		{"N 33 S", "1", "lat", "two hemispheres"},
		{"40.5°30'", "1", "lat", "whole degrees"},
		{"40°60'", "1", "lat", "below 60"},
		{"40,74", "", "long", "missing"},
		{"1", "Inf", "long", "not a finite number"},
		{"1", "0x10", "long", "not a number"},
	} {
		in := readForm(map[string][]string{"email": {"ada@example.com"}, "lat": {tc.lat}, "long": {tc.long}})
		if got := (mainPage{Wrong: in.wrong}).Error(tc.field); !strings.Contains(got, tc.says) {
			t.Errorf("form with %q, %q says of %s: %q; want it to contain %q", tc.lat, tc.long, tc.field, got, tc.says)
		}
	}
}
