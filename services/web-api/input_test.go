package webapi

import (
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// TestPlaceExplained are texts that are no place: the form must say why.
func TestPlaceExplained(t *testing.T) {
	for _, tc := range []struct{ lat, long, field, says string }{
		{"", "", "lat", "Latitude is missing."},
		{"abc", "1", "lat", "must be a number such as"},
		{"91", "100", "lat", "Latitude must be between -90 and 90; you entered 91."},
		{"151.2093", "-33.8688", "lat", "Did you swap latitude and longitude?"},
		{"74.0060 W", "1", "lat", "A latitude is N or S; you entered 74.0060 W."},
		{"1", "40 N", "long", "A longitude is E or W; you entered 40 N."},
		{"-33 S", "1", "lat", "a sign and a hemisphere"},
		{"N 33 S", "1", "lat", "two hemispheres"},
		{"40.5°30'", "1", "lat", "only the last number may have a fraction"},
		{"40°60'", "1", "lat", "below 60"},
		{"40,74", "", "long", "Longitude is missing."},
		{"https://maps.app.goo.gl/x", "", "lat", "holds no coordinates"},
		{"1, 2", "3, 4", "long", "they differ"},
		{"1", "Inf", "long", "must be a number"},
		{"1", "1e999", "long", "not a finite number"},
	} {
		in := readForm(map[string][]string{"email": {"ada@example.com"}, "lat": {tc.lat}, "long": {tc.long}})
		if got := (mainPage{Wrong: in.wrong}).Error(tc.field); !strings.Contains(got, tc.says) {
			t.Errorf("form with %q, %q says of %s: %q; want it to contain %q", tc.lat, tc.long, tc.field, got, tc.says)
		}
	}
}

// TestPlaceName holds the function to the regular expression, for every character in each place.
func TestPlaceName(t *testing.T) {
	want := regexp.MustCompile(`^\pL[\pL\pM\pN .,'’()/-]{0,79}$`)
	check := func(name string) {
		if got := placeName(name); got != want.MatchString(name) {
			t.Errorf("placeName(%q) = %t", name, got)
		}
	}
	for r := rune(0); r <= unicode.MaxRune; r++ {
		check(string(r))
		check("a" + string(r))
	}
	for _, name := range []string{"", "a\xff", strings.Repeat("é", 80), strings.Repeat("é", 81)} {
		check(name)
	}
}
