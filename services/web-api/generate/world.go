// Generate makes ../assets/world.svg from the land outlines of Natural Earth at 1:110 million
// (public domain, https://www.naturalearthdata.com), which the npm package world-atlas 2.0.2 has
// as TopoJSON:
//
//	npm pack world-atlas@2.0.2 && tar xzf world-atlas-2.0.2.tgz
//	go run ./services/web-api/generate <package/land-110m.json >services/web-api/assets/world.svg
//
// One unit of the drawing is a tenth of a degree; x grows to the east and y to the south.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"math"
	"os"
	"strings"
)

type topology struct {
	Objects struct {
		Land struct {
			Geometries []struct {
				Type string
				Arcs [][][]int // a MultiPolygon: polygons of rings of arcs
			}
		}
	}
	Arcs      [][][2]float64
	Transform struct{ Scale, Translate [2]float64 }
}

func main() {
	var t topology
	if err := json.NewDecoder(os.Stdin).Decode(&t); err != nil {
		log.Fatalf("read the topology: %v", err)
	}
	for _, arc := range t.Arcs { // each point is relative to the one before
		for i := range arc {
			if i > 0 {
				arc[i][0] += arc[i-1][0]
				arc[i][1] += arc[i-1][1]
			}
		}
	}
	var d strings.Builder
	for _, g := range t.Objects.Land.Geometries {
		if g.Type != "MultiPolygon" {
			log.Fatalf("geometry %q: only MultiPolygon is known", g.Type)
		}
		for _, polygon := range g.Arcs {
			for _, ring := range polygon {
				draw(&d, t.ring(ring))
			}
		}
	}
	fmt.Printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1800 -900 3600 1800"><path id="land" d="%s"/></svg>`+"\n", d.String())
}

// ring joins arcs into longitudes and latitudes. ^i is arc i backwards. Neighbouring arcs share a
// point.
func (t *topology) ring(arcs []int) (points [][2]float64) {
	for _, a := range arcs {
		arc := t.Arcs[max(a, ^a)]
		for i := range arc {
			p := arc[i]
			if a < 0 {
				p = arc[len(arc)-1-i]
			}
			if i == 0 && len(points) > 0 {
				continue
			}
			points = append(points, [2]float64{
				p[0]*t.Transform.Scale[0] + t.Transform.Translate[0],
				p[1]*t.Transform.Scale[1] + t.Transform.Translate[1],
			})
		}
	}
	return points
}

// draw appends the ring as a closed path. A ring over the date line is drawn at both edges of the
// map. A ring around a pole is closed along the pole.
func draw(d *strings.Builder, ring [][2]float64) {
	east, west := -180.0, 180.0
	for i := range ring {
		if i > 0 {
			ring[i][0] -= 360 * math.Round((ring[i][0]-ring[i-1][0])/360)
		}
		east, west = max(east, ring[i][0]), min(west, ring[i][0])
	}
	if first, last := ring[0], ring[len(ring)-1]; math.Abs(first[0]-last[0]) > 180 {
		pole := math.Copysign(90, first[1])
		ring = append(ring, [2]float64{last[0], pole}, [2]float64{first[0], pole})
	}
	path(d, ring, 0)
	if east > 180 {
		path(d, ring, -360)
	}
	if west < -180 {
		path(d, ring, 360)
	}
}

// path appends the ring, moved east by shift degrees, without points that coincide in the drawing.
func path(d *strings.Builder, ring [][2]float64, shift float64) {
	var x, y, drawn int
	for _, p := range ring {
		nx, ny := int(math.Round((p[0]+shift)*10)), int(math.Round(-p[1]*10))
		switch {
		case drawn == 0:
			fmt.Fprintf(d, "M%d", nx)
			number(d, ny)
		case nx == x && ny == y:
			continue
		case drawn == 1:
			fmt.Fprintf(d, "l%d", nx-x)
			number(d, ny-y)
		default:
			number(d, nx-x)
			number(d, ny-y)
		}
		x, y, drawn = nx, ny, drawn+1
	}
	d.WriteByte('z')
}

// number appends n after another number. A minus sign separates them, else a blank does.
func number(d *strings.Builder, n int) {
	if n >= 0 {
		d.WriteByte(' ')
	}
	fmt.Fprint(d, n)
}
