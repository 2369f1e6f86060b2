package bench

import (
	"fmt"
	"image/color"
	"maps"
	"os"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

var colors = []color.Color{
	color.RGBA{0x1f, 0x6f, 0xb4, 255}, color.RGBA{0xe0, 0x7b, 0x1a, 255}, color.RGBA{0x2c, 0x8f, 0x4e, 255}, color.RGBA{0xb5, 0x32, 0x3c, 255},
	color.RGBA{0x7a, 0x58, 0xa6, 255}, color.RGBA{0x8a, 0x62, 0x3c, 255}, color.RGBA{0xd0, 0x6f, 0xae, 255}, color.RGBA{0x70, 0x70, 0x70, 255},
}

// plot draws the report as an SVG picture: a column of diagrams for each of what was measured.
func (r Report) plot(path string) error {
	var plots []*plot.Plot
	for _, make := range []func() (*plot.Plot, error){r.plotRates, r.plotCPU, r.plotBacklog, r.plotReplicas, r.plotPublish} {
		p, err := make()
		if err != nil {
			return err
		}
		if p != nil {
			plots = append(plots, p)
		}
	}
	if len(plots) == 0 {
		return nil
	}
	const width, height = 16 * vg.Centimeter, 9 * vg.Centimeter
	picture := vgsvg.New(width, height*vg.Length(len(plots)))
	column := make([][]*plot.Plot, len(plots))
	for i, p := range plots {
		column[i] = []*plot.Plot{p}
	}
	tiles := draw.Tiles{Rows: len(plots), Cols: 1, PadY: 6 * vg.Millimeter, PadTop: 4 * vg.Millimeter, PadBottom: 4 * vg.Millimeter, PadLeft: 4 * vg.Millimeter, PadRight: 4 * vg.Millimeter}
	for i, row := range plot.Align(column, tiles, draw.New(picture)) {
		plots[i].Draw(row[0])
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := picture.WriteTo(f); err != nil {
		_ = f.Close() // the picture is of no use
		return fmt.Errorf("write %s: %w", path, err)
	}
	return f.Close()
}

func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Y.Min, p.Legend.Top = 0, true
	p.Add(plotter.NewGrid())
	return p
}

// bars draws groups of bars side by side: of each series, a value for each name.
func bars(p *plot.Plot, names, series []string, value func(series, name int) float64) error {
	width := vg.Points(300 / float64(len(names)*(len(series)+1)))
	for s := range series {
		values := make(plotter.Values, len(names))
		for n := range names {
			values[n] = value(s, n)
		}
		b, err := plotter.NewBarChart(values, width)
		if err != nil {
			return err
		}
		b.Color, b.LineStyle.Width = colors[s%len(colors)], 0
		b.Offset = width * vg.Length(float64(s)-float64(len(series)-1)/2)
		p.Add(b)
		p.Legend.Add(series[s], b)
	}
	p.NominalX(names...)
	p.Y.Max *= 1.4 // room for the legend
	return nil
}

func (s Setting) title() string {
	if s.Fsync == InMemory {
		return "in memory"
	}
	return "appendfsync " + s.Fsync
}

func (r Report) plotRates() (*plot.Plot, error) {
	if len(r.Pipeline) == 0 {
		return nil, nil
	}
	p := newPlot("Submissions a second, medians", "", "events/s")
	var titles []string
	for _, s := range r.Pipeline {
		titles = append(titles, s.title())
	}
	return p, bars(p, titles, []string{"bare handler", "edge alone", "stages alone", "POST to line"}, func(s, n int) float64 {
		m := r.Pipeline[n].Median
		return []float64{m.BareRate, m.EdgeRate, m.DrainRate, m.PipelineRate}[s]
	})
}

func (r Report) plotCPU() (*plot.Plot, error) {
	if len(r.Pipeline) == 0 {
		return nil, nil
	}
	p := newPlot("CPU time from POST to line, last round", "", "ms for an event")
	var titles []string
	for _, s := range r.Pipeline {
		titles = append(titles, s.title())
	}
	last := func(n int) Stretch { return r.Pipeline[n].Rounds[len(r.Pipeline[n].Rounds)-1].Pipeline }
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(last(0).CPU)), func(name string) bool { return name == "bare-echo" })
	return p, bars(p, names, titles, func(s, n int) float64 { return last(s).CPU[names[n]] })
}

func (r Report) plotBacklog() (*plot.Plot, error) {
	at, rates := series(r.Benchmarks, "pkg/stage", "Backlog/events=")
	if len(at) == 0 {
		return nil, nil
	}
	p := newPlot("Draining a backlog, with the stage's start and end", "events in the backlog", "events/s")
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	points := make(plotter.XYs, len(at))
	for i := range at {
		points[i] = plotter.XY{X: at[i], Y: rates[i]}
	}
	line, dots, err := plotter.NewLinePoints(points)
	if err != nil {
		return nil, err
	}
	line.Color, dots.Color, dots.Shape = colors[0], colors[0], draw.CircleGlyph{}
	p.Add(line, dots)
	return p, nil
}

func (r Report) plotReplicas() (*plot.Plot, error) {
	at, forwarding := series(r.Benchmarks, "pkg/stage", "Replicas/forwarding/replicas=")
	if _, waiting := series(r.Benchmarks, "pkg/stage", "Replicas/waiting/replicas="); len(at) > 0 && len(waiting) == len(at) {
		p := newPlot("Replicas of a stage, against one", "replicas", "times the rate of one")
		return p, bars(p, numbers(at), []string{"forwards only", "waits 1 ms"}, func(s, n int) float64 {
			return [][]float64{forwarding, waiting}[s][n] / [][]float64{forwarding, waiting}[s][0]
		})
	}
	return nil, nil
}

func (r Report) plotPublish() (*plot.Plot, error) {
	at, rates := series(r.Benchmarks, "pkg/stage", "Publish/clients=")
	if len(at) == 0 {
		return nil, nil
	}
	p := newPlot("Publishing", "clients at once", "events/s")
	return p, bars(p, numbers(at), []string{"one publisher"}, func(_, n int) float64 { return rates[n] })
}

func numbers(at []float64) []string {
	names := make([]string, len(at))
	for i, n := range at {
		names[i] = strconv.FormatFloat(n, 'f', -1, 64)
	}
	return names
}
