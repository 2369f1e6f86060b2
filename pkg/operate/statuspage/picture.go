package statuspage

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/milepost/milepost/pkg/operate"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

// orientation is how a picture lies: layers beside each other for wide windows, below each other for narrow ones. Lengths are
// CSS pixels at full size.
type orientation struct {
	down                bool
	boxWidth, boxHeight float64
	between, beside     float64
}

var (
	wide = orientation{boxWidth: 146, boxHeight: 166, between: 26, beside: 22}
	tall = orientation{down: true, boxWidth: 124, boxHeight: 166, between: 24, beside: 12}
)

// picture is a pipeline as it is drawn: boxes are stages, pills are channels, edges lead from one to the next.
type picture struct {
	Width, Height float64
	Boxes         []box
	Pills         []pill
	Edges         []edge
}

type box struct {
	X, Y, Width, Height float64
	Name, Title         string // as it fits, and in full
	State, Class        string
	Figures             []figure
}

// figure is a number in a box, at its place in the box.
type figure struct {
	Label, Value string
	X, Right, Y  float64
	Bad          bool
}

type pill struct {
	X, Y, Width, Height, MiddleX float64
	Name, Title, Rate            string
}

type edge struct {
	Path string
	Head string // path of the arrow's head; "" for none
	Live bool   // something travels there now
}

// vertex is a stage, a channel, or a bend of an edge that passes a layer.
type vertex struct {
	name          string
	stage         *inspect.StageInfo
	channel       string
	layer         int
	width, height float64
	at            float64 // the middle, across the flow
	x, y          float64 // the top left corner
	before, after []*vertex
}

// draw lays the pipeline out in layers: stages on the even ones, by their depth, channels between them.
func draw(s inspect.Seen, rows []operate.Row, o orientation) picture {
	layers := graph(s, o)
	for range 4 {
		for i := range layers {
			arrange(layers[i], func(v *vertex) []*vertex { return v.before })
		}
		for i := len(layers) - 1; i >= 0; i-- {
			arrange(layers[i], func(v *vertex) []*vertex { return v.after })
		}
	}
	place(layers, o)
	return render(layers, s, rows, o)
}

// graph makes the vertices, layer by layer.
func graph(s inspect.Seen, o orientation) [][]*vertex {
	var all []*vertex
	stages, channels := map[string]*vertex{}, map[string]*vertex{}
	depths := inspect.Depths(s.Stages)
	for i := range s.Stages {
		v := &vertex{name: s.Stages[i].Name, stage: &s.Stages[i], layer: 2 * depths[s.Stages[i].Name], width: o.boxWidth, height: o.boxHeight}
		if v.stage.In == "" { // a publisher has no figures
			v.height = 54
		}
		stages[v.name] = v
		all = append(all, v)
	}
	for _, c := range s.Channels {
		last, first := -1, -1 // the layers of who publishes last and who reads first
		for _, i := range s.Stages {
			if slices.ContainsFunc(i.Out, func(o stage.Output) bool { return o.Channel == c.Channel }) {
				last = max(last, stages[i.Name].layer)
			}
			if i.In == c.Channel && (first < 0 || stages[i.Name].layer < first) {
				first = stages[i.Name].layer
			}
		}
		v := &vertex{name: c.Channel, channel: c.Channel, layer: last + 1, height: 46}
		v.width = max(8*float64(utf8.RuneCountInString(short(c.Channel, 24)))+20, 76)
		if last < 0 {
			v.layer = first - 1 // may be -1: nobody has published yet
		}
		channels[v.name] = v
		all = append(all, v)
	}
	var bends []*vertex
	join := func(a, b *vertex) {
		for l := a.layer + 1; l < b.layer; l++ {
			bend := &vertex{name: a.name + " " + b.name, layer: l}
			a.after, bend.before = append(a.after, bend), append(bend.before, a)
			bends = append(bends, bend)
			a = bend
		}
		a.after, b.before = append(a.after, b), append(b.before, a)
	}
	for _, i := range s.Stages {
		for _, out := range i.Out {
			if c := channels[out.Channel]; c != nil {
				join(stages[i.Name], c)
			}
		}
		if c := channels[i.In]; c != nil {
			join(c, stages[i.Name])
		}
	}
	lowest := 0
	for _, v := range all {
		lowest = min(lowest, v.layer)
	}
	var layers [][]*vertex
	for _, v := range append(all, bends...) {
		v.layer -= lowest
		for len(layers) <= v.layer {
			layers = append(layers, nil)
		}
		layers[v.layer] = append(layers[v.layer], v)
	}
	layers = slices.DeleteFunc(layers, func(l []*vertex) bool { return len(l) == 0 })
	for i, l := range layers {
		for j, v := range l {
			v.layer, v.at = i, float64(j)
		}
	}
	return layers
}

// arrange sorts a layer by the middle of each vertex' neighbours, so that edges cross little.
func arrange(layer []*vertex, neighbours func(*vertex) []*vertex) {
	middle := map[*vertex]float64{}
	for _, v := range layer {
		middle[v] = v.at
		if n := neighbours(v); len(n) > 0 {
			sum := 0.0
			for _, w := range n {
				sum += w.at
			}
			middle[v] = sum / float64(len(n))
		}
	}
	slices.SortStableFunc(layer, func(a, b *vertex) int { return cmp.Compare(middle[a], middle[b]) })
	for i, v := range layer {
		v.at = float64(i)
	}
}

// place gives each vertex its coordinates: in its layer's order, as near to its neighbours as the others allow.
func place(layers [][]*vertex, o orientation) {
	across := func(v *vertex) float64 {
		if o.down {
			return v.width
		}
		return v.height
	}
	along := func(v *vertex) float64 {
		if o.down {
			return v.height
		}
		return v.width
	}
	apart := func(a, b *vertex) float64 { return (across(a)+across(b))/2 + o.beside }
	most := 0.0 // how far the widest layer reaches from the middle
	for _, l := range layers {
		for i, v := range l {
			v.at = 0
			if i > 0 {
				v.at = l[i-1].at + apart(l[i-1], v)
			}
		}
		for i, middle := len(l)-1, l[len(l)-1].at/2; i >= 0; i-- {
			l[i].at -= middle
			most = max(most, math.Abs(l[i].at)+across(l[i])/2)
		}
	}
	for range 8 {
		for _, l := range layers {
			want := make([]float64, len(l))
			for i, v := range l {
				want[i] = v.at
				if n := slices.Concat(v.before, v.after); len(n) > 0 {
					want[i] = 0
					for _, w := range n {
						want[i] += w.at / float64(len(n))
					}
				}
			}
			// Pushed apart from the front and from the back; the middle of both is apart, too.
			front, back := slices.Clone(want), slices.Clone(want)
			for i := 1; i < len(l); i++ {
				front[i] = max(front[i], front[i-1]+apart(l[i-1], l[i]))
			}
			for i := len(l) - 2; i >= 0; i-- {
				back[i] = min(back[i], back[i+1]-apart(l[i], l[i+1]))
			}
			for i, v := range l {
				v.at = (front[i] + back[i]) / 2
			}
			first, last := l[0], l[len(l)-1]
			move := max(0, -most-(first.at-across(first)/2)) - max(0, last.at+across(last)/2-most)
			for _, v := range l {
				v.at += move
			}
		}
	}
	least := 0.0
	for _, l := range layers {
		for _, v := range l {
			least = min(least, v.at-across(v)/2)
		}
	}
	from := 0.0
	for _, l := range layers {
		deep := 0.0
		for _, v := range l {
			deep = max(deep, along(v))
		}
		for _, v := range l {
			a, c := from+(deep-along(v))/2, v.at-across(v)/2-least
			if v.stage == nil && v.channel == "" { // a bend
				a = from
				if o.down {
					v.height = deep
				} else {
					v.width = deep
				}
			}
			v.x, v.y = a, c
			if o.down {
				v.x, v.y = c, a
			}
		}
		from += deep + o.between
	}
}

// margin is left around the picture, for lines.
const margin = 3

func render(layers [][]*vertex, s inspect.Seen, rows []operate.Row, o orientation) picture {
	var p picture
	for _, l := range layers {
		for _, v := range l {
			v.x, v.y, v.width = math.Round(v.x+margin), math.Round(v.y+margin), math.Round(v.width)
			p.Width, p.Height = max(p.Width, v.x+v.width+margin), max(p.Height, v.y+v.height+margin)
		}
	}
	for _, l := range layers {
		for _, v := range l {
			switch {
			case v.stage != nil:
				p.Boxes = append(p.Boxes, boxOf(v, s.At, rows, o))
			case v.channel != "":
				p.Pills = append(p.Pills, pillOf(v, s))
			}
			for _, w := range v.after {
				p.Edges = append(p.Edges, edgeOf(v, w, s, o))
			}
		}
	}
	return p
}

func boxOf(v *vertex, at time.Time, rows []operate.Row, o orientation) box {
	b := box{
		X: v.x, Y: v.y, Width: v.width, Height: v.height, Name: short(v.name, int(v.width/9)), Title: v.name,
		State: "publishes", Class: "publisher",
	}
	if v.stage.In == "" {
		return b
	}
	i := slices.IndexFunc(rows, func(r operate.Row) bool { return r.Stage == v.name && r.Channel == v.stage.In })
	if i < 0 {
		b.State, b.Class = "has no group", "stopped"
		return b
	}
	r := rows[i]
	b.State, b.Class = r.State, map[string]string{operate.Running: "running", operate.NotRunning: "stopped"}[r.State]
	b.Class = cmp.Or(b.Class, "waiting")
	if r.Why != "" {
		b.Title += ": " + r.Why
	}
	if r.Consumers > 1 {
		b.State += fmt.Sprintf(" × %d", r.Consumers)
	}
	b.Figures = []figure{
		{Label: "backlog", Value: compact(r.Backlog)}, {Label: "pending", Value: compact(r.Pending)},
		{Label: "rate", Value: operate.Rate(r.Rate)}, {Label: "oldest", Value: operate.Ago(at, r.Oldest)},
		{Label: "dead", Value: compactCount(r.Dead), Bad: r.Dead.N > 0}, {Label: "retries", Value: compactCount(r.Retrying), Bad: r.Retrying.N > 0},
	}
	for i := range b.Figures {
		f := &b.Figures[i]
		f.X, f.Right, f.Y = v.x+12, v.x+v.width-12, v.y+65+18*float64(i)
	}
	return b
}

// Where the words of a box and of a pill stand.
func (b box) TextX() float64  { return b.X + 12 }
func (b box) NameY() float64  { return b.Y + 24 }
func (b box) DotX() float64   { return b.X + 17 }
func (b box) DotY() float64   { return b.Y + 40 }
func (b box) StateX() float64 { return b.X + 27 }
func (b box) StateY() float64 { return b.Y + 44 }

func (p pill) NameY() float64 { return p.Y + 20 }
func (p pill) RateY() float64 { return p.Y + 36 }

func pillOf(v *vertex, s inspect.Seen) pill {
	c, _ := s.Channel(v.channel)
	return pill{
		X: v.x, Y: v.y, Width: v.width, Height: v.height, MiddleX: v.x + v.width/2,
		Name: short(v.channel, 24), Title: v.channel, Rate: operate.Rate(c.Rate),
	}
}

// edgeOf is a line from the end of v to the beginning of w, through a bend if one of them is.
func edgeOf(v, w *vertex, s inspect.Seen, o orientation) edge {
	x1, y1, x2, y2 := v.x+v.width, v.y+v.height/2, w.x, w.y+w.height/2
	if o.down {
		x1, y1, x2, y2 = v.x+v.width/2, v.y+v.height, w.x+w.width/2, w.y
	}
	var e edge
	channel := cmp.Or(v.channel, w.channel)
	if channel == "" { // between bends; the name of one is that of its edge
		for _, name := range strings.Fields(v.name) {
			if _, ok := s.Channel(name); ok {
				channel = name
			}
		}
	}
	if c, ok := s.Channel(channel); ok {
		e.Live = c.Rate != nil && *c.Rate > 0
	}
	if w.stage != nil {
		const h = 8 // of the head
		if o.down {
			e.Head = fmt.Sprintf("M%.0f %.0fl-5 -%dh10z", x2, y2, h)
			y2 -= h
		} else {
			e.Head = fmt.Sprintf("M%.0f %.0fl-%d -5v10z", x2, y2, h)
			x2 -= h
		}
	}
	mx1, my1, mx2, my2 := (x1+x2)/2, y1, (x1+x2)/2, y2
	if o.down {
		mx1, my1, mx2, my2 = x1, (y1+y2)/2, x2, (y1+y2)/2
	}
	e.Path = fmt.Sprintf("M%.0f %.0fC%.0f %.0f %.0f %.0f %.0f %.0f", x1, y1, mx1, my1, mx2, my2, x2, y2)
	if v.stage == nil && v.channel == "" { // straight through the bend's own layer first
		if o.down {
			e.Path = fmt.Sprintf("M%.0f %.0fV%.0f", x1, v.y, y1) + e.Path
		} else {
			e.Path = fmt.Sprintf("M%.0f %.0fH%.0f", v.x, y1, x1) + e.Path
		}
	}
	return e
}

// short is s in at most n characters.
func short(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// compact is a number in few characters: 9999, 12.3k, 1.2M.
func compact(n int) string {
	switch {
	case n < 10_000:
		return fmt.Sprint(n)
	case n < 1_000_000:
		return fmt.Sprintf("%.1fk", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1fM", float64(n)/1e6)
}

func compactCount(c operate.Count) string {
	if c.More {
		return compact(c.N) + "+"
	}
	return compact(c.N)
}
