// Package geodesy computes the distance of two places on Earth ([Miles]) and reads the coordinates
// that people type ([Parse]).
package geodesy

import (
	"fmt"
	"math"

	"github.com/golang/geo/s1"
	"github.com/golang/geo/s2"
	"github.com/tidwall/geodesic"
)

// MetresPerMile is the statute mile, exactly.
const MetresPerMile = 1609.344

// Point is a latitude and a longitude, which golang/geo holds in radians.
type Point = s2.LatLng

// Degrees makes a point from degrees, latitude first. The longitude may be any finite number; it is
// wrapped into [-180, 180]. A latitude beyond ±90, NaN or infinity gives an error wrapping
// [ErrRange].
func Degrees(lat, long float64) (Point, error) {
	// The negated comparison refuses NaN too.
	if !(math.Abs(lat) <= 90) {
		return Point{}, &textError{fmt.Sprintf("latitude %v is not in [-90, 90]", lat), ErrRange}
	}
	if math.IsNaN(long) || math.IsInf(long, 0) {
		return Point{}, &textError{fmt.Sprintf("longitude %v is not a finite number", long), ErrRange}
	}
	// math.Remainder is exact, unlike wrapping in radians.
	return Point{Lat: s1.Angle(lat) * s1.Degree, Lng: s1.Angle(math.Remainder(long, 360)) * s1.Degree}, nil
}

// Miles returns the length of the shortest path from p to q on the WGS 84 ellipsoid, in statute
// miles (1609.344 m). Longitudes wrap at 180°. A latitude beyond ±90°, NaN or infinity gives an
// error wrapping [ErrRange].
// Method: C. F. F. Karney, Algorithms for geodesics, J. Geodesy 87 (2013) 43-55.
func Miles(p, q Point) (float64, error) {
	p, err := Degrees(p.Lat.Degrees(), p.Lng.Degrees())
	if err != nil {
		return 0, err
	}
	q, err = Degrees(q.Lat.Degrees(), q.Lng.Degrees())
	if err != nil {
		return 0, err
	}
	var metres float64
	geodesic.WGS84.Inverse(level(p.Lat), p.Lng.Degrees(), level(q.Lat), q.Lng.Degrees(), &metres, nil, nil)
	return metres / MetresPerMile, nil
}

// level returns a latitude in degrees, and 0 for one that is within a billionth of a millimetre of
// the equator. The library rounds such latitudes to 0 but keeps their sign, and with a negative
// zero it goes round the Earth the wrong way: from -1e-20 0 to -1e-20 179.5 it finds -19970 km.
func level(lat s1.Angle) float64 {
	if d := lat.Degrees(); math.Abs(d) >= 1e-17 {
		return d
	}
	return 0
}
