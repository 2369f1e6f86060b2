// Package coordinates reads a place as people write it: decimal degrees, degrees with minutes and
// seconds, hemispheres, a pair in one field, a link copied from a map. testdata/coordinates.json
// has an example for each rule.
package coordinates

import (
	"fmt"
	"strconv"
	"strings"
)

// Place is a latitude and a longitude, each the text of a decimal number in degrees. A text that
// was a decimal number already keeps its digits.
type Place struct{ Lat, Long string }

// Problem says why a field cannot be read.
type Problem struct {
	Field  string // "lat" or "long"
	Reason Reason
	Text   string // what was typed
}

// Error says in a sentence for a visitor what is wrong and what would be right.
func (p Problem) Error() string {
	name, hemispheres, limit := "latitude", "N or S", 90
	if p.Field == "long" {
		name, hemispheres, limit = "longitude", "E or W", 180
	}
	typed := shown(p.Text)
	switch p.Reason {
	case Missing:
		return name + " is missing"
	case OutOfRange:
		return fmt.Sprintf("%s must be between -%d and %d; you entered %s", name, limit, limit, typed)
	case Swapped:
		return fmt.Sprintf("%s must be between -%d and %d; you entered %s. Did you swap latitude and longitude?", name, limit, limit, typed)
	case WrongHemisphere:
		return fmt.Sprintf("a %s is %s; you entered %s", name, hemispheres, typed)
	case TwoHemispheres:
		return fmt.Sprintf("%s names two hemispheres: %s. Leave one out", name, typed)
	case SignAndHemisphere:
		return fmt.Sprintf("%s has a sign and a hemisphere: %s. Leave one out", name, typed)
	case Sixties:
		return fmt.Sprintf("minutes and seconds must be below 60, and only the last number may have a fraction; you entered %s", typed)
	case ShortLink:
		return "this link holds no coordinates. Open it, and copy the address of the map or the coordinates"
	case TwoPlaces:
		return "each field holds a place, and they differ. Leave one out"
	}
	return fmt.Sprintf("%s must be a number such as -74.0060 or 74°0'22\"W; you entered %s", name, typed)
}

// shown is what was typed, on one line and not long.
func shown(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if short := []rune(text); len(short) > 40 {
		text = string(short[:40]) + "…"
	}
	return text
}

type Reason string

const (
	Missing           Reason = "missing"             // nothing was typed
	NotANumber        Reason = "not-a-number"        // no rule reads it
	OutOfRange        Reason = "out-of-range"        // a latitude beyond ±90
	Swapped           Reason = "swapped"             // out of range, but right if the fields are exchanged
	WrongHemisphere   Reason = "wrong-hemisphere"    // E or W in a latitude, N or S in a longitude
	TwoHemispheres    Reason = "two-hemispheres"     // "N 33 S"
	SignAndHemisphere Reason = "sign-and-hemisphere" // "-33 S"
	Sixties           Reason = "sixties"             // minutes or seconds of 60 or more, or a fraction before them
	ShortLink         Reason = "short-link"          // a link that holds no coordinates
	TwoPlaces         Reason = "two-places"          // each field holds a pair, and they differ
)

// Read reads what was typed into the two fields. Either field may hold both coordinates; then the
// other field does not count. The result is valid only if there are no problems.
func Read(lat, long string) (Place, []Problem) {
	if isPlain(lat) && isPlain(long) {
		return checked([2]coordinate{decimal(lat), decimal(long)}, lat, long)
	}
	first, second := tidy(lat), tidy(long)
	a, aIsPair := pair(first, second == "")
	b, bIsPair := pair(second, first == "")
	switch {
	case aIsPair && bIsPair && a != b:
		return Place{}, []Problem{{"long", TwoPlaces, long}}
	case aIsPair:
		return checked(a, lat, lat)
	case bIsPair:
		return checked(b, long, long)
	case isShortLink(first):
		return Place{}, []Problem{{"lat", ShortLink, lat}}
	case isShortLink(second):
		return Place{}, []Problem{{"long", ShortLink, long}}
	}
	x, y := one(first), one(second)
	if x.hemisphere.isLong() && y.hemisphere.isLat() {
		x, y = y, x
	}
	return checked([2]coordinate{x, y}, lat, long)
}

// checked turns two coordinates into a place, or says what is wrong with each.
func checked(p [2]coordinate, lat, long string) (Place, []Problem) {
	var problems []Problem
	note := func(field string, reason Reason, typed string) {
		if reason != "" {
			problems = append(problems, Problem{field, reason, typed})
		}
	}
	north, northWrong := p[0].decimal("NS")
	east, eastWrong := p[1].decimal("EW")
	if northWrong == "" && beyond90(north) {
		northWrong = OutOfRange
		if eastWrong == "" && !beyond90(east) {
			northWrong = Swapped
		}
	}
	note("lat", northWrong, lat)
	note("long", eastWrong, long)
	return Place{north, east}, problems
}

func beyond90(text string) bool {
	v, err := strconv.ParseFloat(text, 64)
	return err != nil || v > 90 || v < -90
}

// hemisphere is one of the letters N, S, E and W, or "".
type hemisphere string

func (h hemisphere) isLat() bool  { return h == "N" || h == "S" }
func (h hemisphere) isLong() bool { return h == "E" || h == "W" }

// coordinate is one coordinate as it was written.
type coordinate struct {
	sign       string
	numbers    [3]string // degrees, minutes, seconds; "" where there are none
	hemisphere hemisphere
	wrong      Reason
}

// decimal returns the coordinate in decimal degrees; axis is its hemispheres, the positive one
// first.
func (c coordinate) decimal(axis string) (string, Reason) {
	switch {
	case c.wrong != "":
		return "", c.wrong
	case c.hemisphere != "" && !strings.Contains(axis, string(c.hemisphere)):
		return "", WrongHemisphere
	case c.hemisphere != "" && c.sign != "":
		return "", SignAndHemisphere
	}
	sign := c.sign
	if c.hemisphere != "" && string(c.hemisphere) == axis[1:] {
		sign = "-"
	}
	if c.numbers[1] == "" {
		return sign + c.numbers[0], ""
	}
	degrees, _ := strconv.ParseFloat(c.numbers[0], 64) // the lexer lets only numbers through
	minutes, _ := strconv.ParseFloat(c.numbers[1], 64)
	seconds, _ := strconv.ParseFloat("0"+c.numbers[2], 64)
	fraction := strings.Contains(c.numbers[0], ".") || c.numbers[2] != "" && strings.Contains(c.numbers[1], ".")
	if fraction || minutes >= 60 || seconds >= 60 {
		return "", Sixties
	}
	if sign == "+" {
		sign = ""
	}
	return sign + strconv.FormatFloat(degrees+minutes/60+seconds/3600, 'f', 6, 64), ""
}
