package geodesy_test

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/golang/geo/s1"
	"github.com/tidwall/geodesic"

	"github.com/milepost/milepost/pkg/geodesy"
)

const micrometre = 1e-6

var office = must(geodesy.Degrees(32.080058, 34.864535))

func must(p geodesy.Point, err error) geodesy.Point {
	if err != nil {
		panic(err)
	}
	return p
}

func metres(t *testing.T, p, q geodesy.Point) float64 {
	t.Helper()
	miles, err := geodesy.Miles(p, q)
	if err != nil {
		t.Fatalf("Miles(%v, %v): %v", p, q, err)
	}
	return miles * geodesy.MetresPerMile
}

func TestMiles(t *testing.T) {
	for name, tc := range map[string]struct {
		lat, long float64
		want      float64
	}{
		"New York":        {40.7128, -74.0060, 5679.936314229},
		"Tokyo":           {35.6762, 139.6503, 5697.889843771},
		"Sydney":          {-33.8688, 151.2093, 8805.173516644},
		"near-antipode":   {-32, -145, 12423.463153522},
		"antipode":        {-32.080058, 34.864535 - 180, 12429.866739880},
		"north pole":      {90, 0, 4008.612119448},
		"north pole, 123": {90, 123, 4008.612119448},
		"the office":      {32.080058, 34.864535, 0},
		"once round":      {32.080058, 34.864535 + 360, 0},
		"twice round":     {40.7128, -74.0060 - 720, 5679.936314229},
	} {
		t.Run(name, func(t *testing.T) {
			q := must(geodesy.Degrees(tc.lat, tc.long))
			got, err := geodesy.Miles(office, q)
			// Half a unit of the ninth decimal that the contract gives, and the
			// rounding of 34.864535+360.
			if err != nil || math.Abs(got-tc.want) > 6e-10 {
				t.Errorf("Miles(office, %v %v) = %.12f, %v; want %.9f", tc.lat, tc.long, got, err, tc.want)
			}
		})
	}
}

// TestGeographicLib holds Miles to the distances of GeographicLib, in both directions and in all
// mirrorings.
func TestGeographicLib(t *testing.T) {
	f, err := os.Open("testdata/geographiclib.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		var a, b, c, d, want float64
		if _, err := fmt.Sscan(lines.Text(), &a, &b, &c, &d, &want); err != nil {
			t.Fatalf("line %q: %v", lines.Text(), err)
		}
		n++
		for name, v := range map[string][4]float64{
			"as it is":          {a, b, c, d},
			"backwards":         {c, d, a, b},
			"south up":          {-a, b, -c, d},
			"east for west":     {a, -b, c, -d},
			"wrapped once":      {a, b, c, d + 360},
			"wrapped back once": {a, b - 360, c, d},
		} {
			got := metres(t, must(geodesy.Degrees(v[0], v[1])), must(geodesy.Degrees(v[2], v[3])))
			if !(math.Abs(got-want) <= micrometre) {
				t.Errorf("%s: distance of %v %v and %v %v is %.9f m, want %.9f m", name, v[0], v[1], v[2], v[3], got, want)
			}
		}
	}
	if n < 400 {
		t.Errorf("compared %d distances, want the 400 of the file", n)
	}
}

// TestThereAndBack walks from a place along a geodesic and measures how far that was. Up to 19,000
// km the walk is the shortest way (the cut locus begins at 19,936 km), so the two must agree.
func TestThereAndBack(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		lat, long := math.Asin(2*r.Float64()-1)*180/math.Pi, r.Float64()*360-180
		azimuth, want := r.Float64()*360, math.Pow(10, r.Float64()*10-3)
		want = math.Mod(want, 1.9e7)
		var lat2, long2 float64
		geodesic.WGS84.Direct(lat, long, azimuth, want, &lat2, &long2, nil)
		got := metres(t, must(geodesy.Degrees(lat, long)), must(geodesy.Degrees(lat2, long2)))
		if !(math.Abs(got-want) <= micrometre) {
			t.Errorf("%v m from %v %v at %v° is measured as %v m", want, lat, long, azimuth, got)
		}
	}
}

// TestMetric checks what every distance has: zero to itself, the same both ways, never longer by a
// stop on the way.
func TestMetric(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	place := func() geodesy.Point {
		return must(geodesy.Degrees(math.Asin(2*r.Float64()-1)*180/math.Pi, r.Float64()*360-180))
	}
	for range 5_000 {
		p, q, s := place(), place(), place()
		pq, qp, ps, sq := metres(t, p, q), metres(t, q, p), metres(t, p, s), metres(t, s, q)
		if metres(t, p, p) != 0 || math.Abs(pq-qp) > micrometre || pq > ps+sq+micrometre || pq < 0 {
			t.Errorf("p=%v q=%v s=%v: p-q %v, q-p %v, p-s %v, s-q %v", p, q, s, pq, qp, ps, sq)
		}
	}
}

func TestDegrees(t *testing.T) {
	for name, tc := range map[string]struct {
		lat, long, wantLong float64
		fails               error
	}{
		"plain":          {lat: 40.7128, long: -74.006, wantLong: -74.006},
		"date line":      {long: 180, wantLong: 180},
		"date line west": {long: -180, wantLong: -180},
		"beyond it":      {long: 180.5, wantLong: -179.5},
		"many times":     {long: 3600 + 12, wantLong: 12},
		"north pole":     {lat: 90},
		"south pole":     {lat: -90},
		"just beyond":    {lat: math.Nextafter(90, 91), fails: geodesy.ErrRange},
		"south of it":    {lat: -90.0001, fails: geodesy.ErrRange},
		"lat NaN":        {lat: math.NaN(), fails: geodesy.ErrRange},
		"lat infinite":   {lat: math.Inf(-1), fails: geodesy.ErrRange},
		"long NaN":       {long: math.NaN(), fails: geodesy.ErrRange},
		"long infinite":  {long: math.Inf(1), fails: geodesy.ErrRange},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := geodesy.Degrees(tc.lat, tc.long)
			if !errors.Is(err, tc.fails) {
				t.Fatalf("Degrees(%v, %v) = %v, %v; want error %v", tc.lat, tc.long, p, err, tc.fails)
			}
			if err == nil && (p.Lat.Degrees() != tc.lat || p.Lng.Degrees() != tc.wantLong || !p.IsValid()) {
				t.Errorf("Degrees(%v, %v) = %v; want %v %v", tc.lat, tc.long, p, tc.lat, tc.wantLong)
			}
		})
	}
}

func TestMilesRefuses(t *testing.T) {
	for name, p := range map[string]geodesy.Point{
		"latitude": {Lat: 1.6},
		"NaN":      {Lat: s1.Angle(math.NaN())},
		"infinite": {Lng: s1.Angle(math.Inf(1))},
	} {
		if _, err := geodesy.Miles(office, p); !errors.Is(err, geodesy.ErrRange) {
			t.Errorf("%s: Miles(office, %v): %v, want an error wrapping ErrRange", name, p, err)
		}
		if _, err := geodesy.Miles(p, office); !errors.Is(err, geodesy.ErrRange) {
			t.Errorf("%s: Miles(%v, office): %v, want an error wrapping ErrRange", name, p, err)
		}
	}
}

func ExampleMiles() {
	velocity, _ := geodesy.Degrees(32.080058, 34.864535)
	newYork, err := geodesy.Parse("40.7128", "-74.0060")
	if err != nil {
		fmt.Println(err)
		return
	}
	miles, err := geodesy.Miles(velocity, newYork)
	fmt.Printf("%.3f miles, %v\n", miles, err)
	// Output: 5679.936 miles, <nil>
}

func BenchmarkMiles(b *testing.B) {
	p := must(geodesy.Parse("40.7128", "-74.0060"))
	for b.Loop() {
		if _, err := geodesy.Miles(office, p); err != nil {
			b.Fatal(err)
		}
	}
}
