package webapi

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/geodesy"
)

func TestLine(t *testing.T) {
	for name, tc := range map[string]struct {
		lat, long float64
		copies    int
	}{
		"over land":          {40.7128, -74.006, 1},
		"over the date line": {-32, -160, 2},
		"the same place":     {32.080058, 34.864535, 1},
		"the antipode":       {-32.080058, -145.135465, 1},
		"near the antipode":  {-32.0800, -145.1354, 1},
		"north pole":         {90, 0, 1},
		"south pole":         {-90, 100, 1},
		"beyond 180":         {10, 190, 1},
	} {
		t.Run(name, func(t *testing.T) {
			to, err := geodesy.Degrees(tc.lat, tc.long)
			if err != nil {
				t.Fatal(err)
			}
			d, box := line(velocity.Point, to)
			if tc.copies == 2 && box != world {
				t.Errorf("the view of a way over the date line is %q; want the world", box)
			}
			if strings.Contains(d, "NaN") || strings.Contains(d, "Inf") {
				t.Fatalf("line to %v, %v = %s", tc.lat, tc.long, d)
			}
			copies := strings.Split(d, "M")[1:]
			if len(copies) < tc.copies {
				t.Errorf("line to %v, %v has %d copies; want %d: %s", tc.lat, tc.long, len(copies), tc.copies, d)
			}
			var x, y, endX, endY float64
			for _, c := range copies {
				for i, point := range strings.Split(c, "L") {
					var nx, ny float64
					if _, err := fmt.Sscan(point, &nx, &ny); err != nil {
						t.Fatalf("point %q: %v", point, err)
					}
					if i > 0 && math.Abs(nx-x) > 1800 {
						t.Errorf("the line jumps from %v to %v", x, nx)
					}
					x, y = nx, ny
				}
				endX, endY = x, y
			}
			wantX, wantY := onMap(to)
			if off := math.Remainder(endX-float64(wantX), 3600); math.Abs(endY-float64(wantY)) > 1 || (math.Abs(off) > 1 && math.Abs(tc.lat) < 89) {
				t.Errorf("line to %v, %v ends at %v, %v; want %d, %d", tc.lat, tc.long, endX, endY, wantX, wantY)
			}
		})
	}
}

// TestWorld holds the drawing of the land to what it is made for.
func TestWorld(t *testing.T) {
	a, err := openAssets()
	if err != nil {
		t.Fatal(err)
	}
	if svg := string(a.files["world.svg"].plain); !regexp.MustCompile(`<path id="land" d="M[-0-9 MlzL]+z"/>`).MatchString(svg) {
		t.Errorf("world.svg is not one path named land: %.120s", svg)
	}
}
