package geodesy

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// The errors of this package wrap one of these.
var (
	// ErrRange: a latitude beyond ±90, NaN or infinity.
	ErrRange = errors.New("out of range")
	// ErrSyntax: text that is not a decimal number.
	ErrSyntax = errors.New("not a number")
)

// maxText is the longest number that is read, in bytes.
const maxText = 64

// ParseLatitude reads decimal degrees north, in [-90, 90]: digits with an optional sign, point and
// exponent, and spaces around them. Its errors wrap [ErrSyntax] or [ErrRange]; their texts are for
// users.
func ParseLatitude(s string) (float64, error) {
	v, err := parse("latitude", s)
	if err == nil && math.Abs(v) > 90 {
		err = &textError{fmt.Sprintf("latitude %q is not in [-90, 90]", s), ErrRange}
	}
	if err != nil {
		return 0, err
	}
	return v, nil
}

// ParseLongitude reads decimal degrees east as [ParseLatitude] does. Any finite number is a
// longitude; it is returned unwrapped.
func ParseLongitude(s string) (float64, error) { return parse("longitude", s) }

// Parse reads a latitude and a longitude. If both are wrong, the error is about the latitude.
func Parse(lat, long string) (Point, error) {
	φ, err := ParseLatitude(lat)
	if err != nil {
		return Point{}, err
	}
	λ, err := ParseLongitude(long)
	if err != nil {
		return Point{}, err
	}
	return Degrees(φ, λ)
}

// parse reads [+-] digits [. digits] [e [+-] digits], with a digit before or after the point.
// strconv also takes hexadecimal, infinity and NaN, which have other characters.
func parse(name, s string) (float64, error) {
	t := strings.Trim(s, " ")
	v, err := strconv.ParseFloat(t, 64)
	switch {
	case t == "":
		return 0, &textError{name + " is missing", ErrSyntax}
	case len(t) > maxText:
		return 0, &textError{fmt.Sprintf("%s has %d characters, at most %d are allowed", name, len(t), maxText), ErrSyntax}
	case errors.Is(err, strconv.ErrRange), err == nil && (math.IsInf(v, 0) || math.IsNaN(v)):
		return 0, &textError{fmt.Sprintf("%s %q is not a finite number", name, s), ErrRange}
	case err != nil, strings.Trim(t, "0123456789.eE+-") != "":
		return 0, &textError{fmt.Sprintf("%s %q is not a number such as -74.0060", name, s), ErrSyntax}
	}
	return v, nil
}

// textError is a text for users that wraps a sentinel.
type textError struct {
	text string
	kind error
}

func (e *textError) Error() string { return e.text }
func (e *textError) Unwrap() error { return e.kind }
