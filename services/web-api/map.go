package webapi

import (
	"html/template"
	"math"
	"net/url"
	"strconv"

	"github.com/golang/geo/s1"
	"github.com/golang/geo/s2"

	"github.com/milepost/milepost/pkg/geodesy"
)

// The map is drawn in tenths of degrees, x to the east and y to the south.

// mapView is what pages draw on the map of the world, and the sign above it.
type mapView struct {
	Office           string
	OfficeX, OfficeY int
	OfficeLat        float64
	OfficeLong       float64

	Chosen bool // there is a place to draw
	spot
	Miles, Km string // the distance; "" if it is not known
	Hint      string // while there is no distance
}

// spot is what the map has of a place.
type spot struct {
	Lat      string       `json:"lat"` // decimal degrees
	Long     string       `json:"long"`
	From     string       `json:"from"` // its name, or its coordinates
	Distance float64      `json:"miles"`
	X        int          `json:"x"`
	Y        int          `json:"y"`
	Line     string       `json:"line"`  // the way; without a place the line of all places at the distance
	View     string       `json:"view"`  // the SVG viewBox: the world, or closer if the way is short
	Share    template.URL `json:"share"` // the page to share
}

// mapOf returns the map with the office and, if t has a valid one, the place and its distance.
func (s *site) mapOf(t typed) mapView {
	m := mapView{
		Office: s.office.Name, OfficeLat: s.office.Point.Lat.Degrees(), OfficeLong: s.office.Point.Lng.Degrees(), spot: spot{View: world},
		Hint: "Choose a place to see the distance.",
	}
	m.OfficeX, m.OfficeY = onMap(s.office.Point)
	lat, long, _ := place(t.Lat, t.Long)
	point, err := geodesy.Parse(lat, long)
	if err != nil {
		return m
	}
	m.Chosen, m.Lat, m.Long = true, lat, long
	m.Line, m.View = line(s.office.Point, point)
	m.X, m.Y = onMap(point)
	at, name := lat+","+long, t.name(lat, long)
	m.From = lat + ", " + long
	if name != "" {
		m.From, at = name, at+","+name
	}
	m.Share = template.URL("/from?at=" + url.QueryEscape(at))
	if miles, err := geodesy.Miles(s.office.Point, point); err == nil {
		m.Distance, m.Miles, m.Km = miles, grouped(miles), grouped(miles*kmPerMile)
	}
	return m
}

// ringOf returns the map with the line of all places at a distance: the page of an event shows
// the distance, not the place.
func (s *site) ringOf(miles *float64) mapView {
	m := s.mapOf(typed{})
	if m.From = "The place"; miles == nil {
		m.Hint = "The distance comes in a moment."
		return m
	}
	m.Miles, m.Km = grouped(*miles), grouped(*miles*kmPerMile)
	m.Line = ring(s.office.Point, *miles)
	return m
}

const (
	kmPerMile = 1.609344
	world     = "-1800 -900 3600 1800"
	closest   = 300.0 // the smallest width of a view
)

// ring returns the SVG path of the circle around p. It is cut where it leaves the map.
func ring(p geodesy.Point, miles float64) string {
	angle := s1.Angle(miles * kmPerMile / 6371.0088)
	center, d, last := s2.PointFromLatLng(p), []byte(nil), 0.0
	frame := center.PointCross(s2.PointFromCoords(0, 0, 1))
	start := s2.Point{Vector: center.Mul(math.Cos(angle.Radians())).Add(frame.Cross(center.Vector).Normalize().Mul(math.Sin(angle.Radians())))}
	for i := range 121 {
		at := s2.LatLngFromPoint(s2.Rotate(start, center, s1.Angle(2*math.Pi*float64(i)/120)))
		x := at.Lng.Degrees() * 10
		letter := byte('L')
		if i == 0 || math.Abs(x-last) > 1800 {
			letter = 'M'
		}
		d = append(strconv.AppendFloat(append(d, letter), x, 'f', 0, 64), ' ')
		d = strconv.AppendFloat(d, -at.Lat.Degrees()*10, 'f', 0, 64)
		last = x
	}
	return string(d)
}

// view returns the viewBox for a way within these bounds, twice as wide as high.
func view(west, east, north, south float64) string {
	width := math.Round(max((east-west)*1.5, (south-north)*3.2, closest))
	if width > 2400 {
		return world
	}
	x := min(max(math.Round((west+east-width)/2), -1800), 1800-width)
	y := min(max(math.Round((north+south-width/2)/2), -900), 900-width/2)
	box := make([]byte, 0, 24)
	for i, v := range []float64{x, y, width, width / 2} {
		if i > 0 {
			box = append(box, ' ')
		}
		box = strconv.AppendInt(box, int64(math.Round(v)), 10)
	}
	return string(box)
}

func onMap(p geodesy.Point) (x, y int) {
	return int(math.Round(p.Lng.Degrees() * 10)), int(math.Round(-p.Lat.Degrees() * 10))
}

// line returns the SVG path of the shortest way from p to q, on the sphere: on a map of this size
// it is less than a pixel off the way on the ellipsoid. A way over the date line is drawn twice,
// so that it leaves the map at one edge and comes back at the other. Between antipodes all ways
// are equally long; it returns one of them. The second result is the view that shows it best.
func line(p, q geodesy.Point) (path, box string) {
	a, b := s2.PointFromLatLng(p), s2.PointFromLatLng(q)
	if a.Distance(b) > s1.Angle(math.Pi-1e-9) {
		b = s2.PointFromLatLng(s2.LatLng{Lat: q.Lat - s1.Angle(math.Copysign(1e-6, float64(q.Lat))), Lng: q.Lng})
	}
	n := 1 + int(a.Distance(b).Degrees()/4)
	xs, ys := make([]float64, n+1), make([]float64, n+1)
	east, west, north, south := -1800.0, 1800.0, 900.0, -900.0
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
		north, south = min(north, ys[i]), max(south, ys[i])
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
	if east > 1800 || west < -1800 {
		return string(d), world
	}
	return string(d), view(west, east, north, south)
}
