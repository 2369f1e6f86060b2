package webapi

import (
	"math"
	"strconv"

	"github.com/golang/geo/s1"
	"github.com/golang/geo/s2"

	"github.com/milepost/milepost/pkg/geodesy"
)

// The map is drawn in tenths of degrees, x to the east and y to the south.

// mapView is what the page draws on the map of the world.
type mapView struct {
	Office           string
	OfficeX, OfficeY int
	OfficeLat        float64
	OfficeLong       float64
	Chosen           bool // there is a place to draw
	X, Y             int
	Line             string
	Length           string
}

// mapOf returns the map with the office and, if t has a valid one, the place. Measure adds the
// distance.
func (s *site) mapOf(t typed, measure bool) mapView {
	m := mapView{Office: s.office.Name, OfficeLat: s.office.Point.Lat.Degrees(), OfficeLong: s.office.Point.Lng.Degrees()}
	m.OfficeX, m.OfficeY = onMap(s.office.Point)
	lat, long, _ := place(t.Lat, t.Long)
	point, err := geodesy.Parse(lat, long)
	if err != nil {
		return m
	}
	m.Chosen, m.Line = true, line(s.office.Point, point)
	m.X, m.Y = onMap(point)
	if miles, err := geodesy.Miles(s.office.Point, point); err == nil && measure {
		m.Length = inMiles(miles)
	}
	return m
}

// onMap returns the place of a point on the map.
func onMap(p geodesy.Point) (x, y int) {
	return int(math.Round(p.Lng.Degrees() * 10)), int(math.Round(-p.Lat.Degrees() * 10))
}

// line returns the SVG path of the shortest way from p to q, on the sphere: on a map of this size
// it is less than a pixel off the way on the ellipsoid. A way over the date line is drawn twice,
// so that it leaves the map at one edge and comes back at the other. Between antipodes all ways
// are equally long; it returns one of them.
func line(p, q geodesy.Point) string {
	a, b := s2.PointFromLatLng(p), s2.PointFromLatLng(q)
	if a.Distance(b) > s1.Angle(math.Pi-1e-9) {
		b = s2.PointFromLatLng(s2.LatLng{Lat: q.Lat - s1.Angle(math.Copysign(1e-6, float64(q.Lat))), Lng: q.Lng})
	}
	n := 1 + int(a.Distance(b).Degrees()/4)
	xs, ys := make([]float64, n+1), make([]float64, n+1)
	east, west := -1800.0, 1800.0
	// As s2.Interpolate, which computes the direction anew for each point.
	angle, direction := a.Angle(b.Vector).Radians(), a.PointCross(b).Cross(a.Vector)
	length := direction.Norm()
	for i := range n + 1 {
		point := b
		if i < n {
			sin, cos := math.Sincos(float64(i) / float64(n) * angle)
			point = s2.Point{Vector: a.Mul(cos).Add(direction.Mul(sin / length))}
		}
		at := s2.LatLngFromPoint(point)
		xs[i], ys[i] = at.Lng.Degrees()*10, -at.Lat.Degrees()*10
		if i > 0 {
			xs[i] -= 3600 * math.Round((xs[i]-xs[i-1])/3600)
		}
		east, west = max(east, xs[i]), min(west, xs[i])
	}
	d := make([]byte, 0, 12*len(xs))
	draw := func(shift float64) {
		for i := range xs {
			d = append(d, "ML"[min(i, 1)])
			d = append(strconv.AppendInt(d, int64(math.RoundToEven(xs[i]+shift)), 10), ' ')
			d = strconv.AppendInt(d, int64(math.RoundToEven(ys[i])), 10)
		}
	}
	draw(0)
	if east > 1800 {
		draw(-3600)
	}
	if west < -1800 {
		draw(3600)
	}
	return string(d)
}
