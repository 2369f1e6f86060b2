package bench

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"maps"
	"slices"
	"strconv"
)

// The picture is bars from 0 with their values beside them, one diagram below the other. A library for plots would add a
// third to the tool's size, with fonts and eight modules, for nothing that these figures need.

type diagram struct {
	title, unit string
	bars        []bar
}

type bar struct {
	label string
	value float64
	color int // bars of one kind have the same
}

const (
	rowHeight  = 22
	labelWidth = 290
	barWidth   = 300 // of the longest
	pageWidth  = labelWidth + barWidth + 150
)

var colors = []string{"#1f6fb4", "#e07b1a", "#2c8f4e", "#b5323c"}

// plot draws the report as an SVG picture.
func (r Report) plot() []byte {
	var rows bytes.Buffer
	y := 10
	for _, d := range r.diagrams() {
		longest := slices.MaxFunc(d.bars, func(a, b bar) int { return cmp.Compare(a.value, b.value) }).value
		y += rowHeight
		fmt.Fprintf(&rows, "<text x=\"10\" y=\"%d\" font-weight=\"bold\">%s</text>\n", y, html.EscapeString(d.title))
		y += 8
		for _, b := range d.bars {
			width := 0.0
			if longest > 0 {
				width = b.value / longest * barWidth
			}
			fmt.Fprintf(&rows, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>", labelWidth-8, y+15, html.EscapeString(b.label))
			fmt.Fprintf(&rows, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>", labelWidth, y+2, width, rowHeight-5, colors[b.color%len(colors)])
			fmt.Fprintf(&rows, "<text x=\"%.1f\" y=\"%d\">%s</text>\n", labelWidth+width+6, y+15, html.EscapeString(rounded(b.value)+" "+d.unit))
			y += rowHeight
		}
	}
	var page bytes.Buffer
	fmt.Fprintf(&page, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"13\">\n", pageWidth, y+20)
	fmt.Fprintf(&page, "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n%s</svg>\n", rows.Bytes())
	return page.Bytes()
}

// rounded writes a figure with three digits that count, and whole if it has more.
func rounded(v float64) string {
	if v >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// diagrams are those of the report for which there are figures.
func (r Report) diagrams() []diagram {
	rates := diagram{title: "Submissions a second, medians", unit: "/s"}
	cpu := diagram{title: "CPU seconds for 1,000 events from POST to line, last round", unit: "s"}
	for i, s := range r.Pipeline {
		m := s.Median
		for _, b := range []bar{{"bare handler", m.BareRate, i}, {"edge alone", m.EdgeRate, i}, {"stages alone", m.DrainRate, i}, {"from POST to line", m.PipelineRate, i}} {
			if b.value > 0 { // else it was not measured
				rates.bars = append(rates.bars, bar{b.label + ", " + s.title(), b.value, i})
			}
		}
		used := s.Rounds[len(s.Rounds)-1].Pipeline.CPU
		for _, name := range slices.Sorted(maps.Keys(used)) {
			if name == "bare-echo" {
				continue // which has nothing to do there
			}
			cpu.bars = append(cpu.bars, bar{name + ", " + s.title(), used[name], i})
		}
	}
	backlog := diagram{title: "Draining a backlog, with the stage's start and end", unit: "events/s"}
	at, found := series(r.Benchmarks, "pkg/stage", "Backlog/events=")
	for i := range at {
		backlog.bars = append(backlog.bars, bar{fmt.Sprintf("%.0f events", at[i]), found[i], 0})
	}
	replicas := diagram{title: "Replicas of a stage, as many times as fast as one"}
	for color, kind := range []struct{ name, label string }{{"forwarding", "that only forward"}, {"waiting", "that wait 1 ms"}} {
		at, found := series(r.Benchmarks, "pkg/stage", "Replicas/"+kind.name+"/replicas=")
		for i := range at {
			replicas.bars = append(replicas.bars, bar{fmt.Sprintf("%.0f %s", at[i], kind.label), found[i] / found[0], color})
		}
	}
	publish := diagram{title: "Publishing", unit: "events/s"}
	at, found = series(r.Benchmarks, "pkg/stage", "Publish/clients=")
	for i := range at {
		publish.bars = append(publish.bars, bar{fmt.Sprintf("%.0f at once", at[i]), found[i], 0})
	}
	return slices.DeleteFunc([]diagram{rates, cpu, backlog, replicas, publish}, func(d diagram) bool { return len(d.bars) == 0 })
}
