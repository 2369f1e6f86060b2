//go:build linux

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// services are those that an event passes.
var services = []string{"web-api", "distance", "db", "email"}

// report is what a run measured.
type report struct {
	Machine  string    `json:"machine"`
	Pipeline []setting `json:"pipeline"`
}

// setting is the whole pipeline on a Redis with one durability.
type setting struct {
	Fsync       string             `json:"appendfsync"` // "off": in memory, without a log
	Store       string             `json:"store"`
	Connections int                `json:"connections"`
	Outstanding int                `json:"outstanding"` // most submissions without a line at full speed
	Rounds      []round            `json:"rounds"`
	Peer        *balance           `json:"watermill_ledger,omitempty"` // for Watermill lines may be lost or doubled
	Median      map[string]float64 `json:"median"`                     // by the names of figures
	Ledger      balance            `json:"ledger"`
}

// round is one turn of everything that is compared.
type round struct {
	Edge     stretch `json:"edge"`     // JSON, web-api while all stages are stopped
	Bare     stretch `json:"bare"`     // the bare handler, with one script call a request
	Drain    stretch `json:"drain"`    // of what the edge left, from the stages' start to the last line
	Light    stretch `json:"light"`    // JSON, from POST to log line, 100 a second
	Pipeline stretch `json:"pipeline"` // JSON, from POST to log line, at full speed

	FormEdge  stretch `json:"form_edge"` // the same by form
	FormLight stretch `json:"form_light"`
	FormFew   stretch `json:"form_few"` // at full speed with few connections
	Form      stretch `json:"form"`
	PeerLight stretch `json:"watermill_light"` // by form through the build on Watermill
	PeerFew   stretch `json:"watermill_few"`
	Peer      stretch `json:"watermill"`

	IdleTrips float64 `json:"idle_redis_round_trips_per_second"` // of all services, while nobody submits
}

type stretch struct {
	Seconds      float64 `json:"seconds"`
	Events       int     `json:"events"`
	Rate         float64 `json:"events_per_second"`
	Post         *times  `json:"post_ms,omitempty"`        // from POST to its answer
	Line         *times  `json:"line_ms,omitempty"`        // from POST to the line in the log
	MostUnderWay int     `json:"most_under_way,omitempty"` // submissions without a line
	cost
}

// costing adds to a stretch what it took.
func (s stretch) costing(from, to reading) (stretch, error) {
	if s.Events == 0 {
		return s, errors.New("no event was completed while it was measured")
	}
	s.Rate, s.cost = float64(s.Events)/s.Seconds, spent(from, to, s.Events)
	return s, nil
}

type cost struct {
	CPU        map[string]float64 `json:"cpu_seconds_per_1000"`           // by process
	Elsewhere  float64            `json:"cpu_seconds_per_1000_elsewhere"` // the rest of the machine
	Stolen     float64            `json:"cpu_seconds_per_1000_stolen"`    // by the host of a virtual machine
	Commands   map[string]float64 `json:"redis_commands_per_event"`       // those inside scripts too
	Left       float64            `json:"redis_bytes_left_per_event"`
	RoundTrips float64            `json:"redis_round_trips_per_event"`
	Resident   map[string]float64 `json:"resident_mb"` // by process, at the end
	Peak       map[string]float64 `json:"resident_peak_mb"`
}

// sum adds the values of some keys, of all if none is named.
func sum(m map[string]float64, keys ...string) (s float64) {
	for k, v := range m {
		if len(keys) == 0 || slices.Contains(keys, k) {
			s += v
		}
	}
	return s
}

// times is a distribution, in milliseconds.
type times struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func timesOf(sorted []time.Duration) *times {
	if len(sorted) == 0 {
		return nil
	}
	at := func(share float64) float64 {
		return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))].Seconds() * 1000
	}
	return &times{at(0.5), at(0.99), at(1)}
}

// balance is what all rounds of a setting add up to.
type balance struct {
	Accepted int `json:"accepted"` // without a backlog that was dropped
	Lines    int `json:"lines"`
	Doubled  int `json:"doubled"`
}

// figures are those to compare with other runs, by their names in the report.
var figures = []struct {
	name, label, format string
	of                  func(round) float64
}{
	{"bare_events_per_second", "bare echo handler, one script call a request", "%.0f/s", func(r round) float64 { return r.Bare.Rate }},
	{"edge_events_per_second", "edge, stages stopped, JSON", "%.0f/s", func(r round) float64 { return r.Edge.Rate }},
	{"edge_to_bare", "  of the bare handler", "%.2f  (wanted: 0.80)", func(r round) float64 { return of(r.Edge.Rate, r.Bare.Rate) }},
	{"form_edge_events_per_second", "edge, form", "%.0f/s", func(r round) float64 { return r.FormEdge.Rate }},
	{"form_edge_to_json", "  of JSON", "%.2f  (wanted: 0.85)", func(r round) float64 { return of(r.FormEdge.Rate, r.Edge.Rate) }},
	{"drain_events_per_second", "stages, draining what the edge left", "%.0f/s", func(r round) float64 { return r.Drain.Rate }},
	{"pipeline_events_per_second", "from POST to log line, JSON", "%.0f/s", func(r round) float64 { return r.Pipeline.Rate }},
	{"pipeline_to_edge", "  of the edge", "%.2f  (wanted: 0.60)", func(r round) float64 { return of(r.Pipeline.Rate, r.Edge.Rate) }},
	{"pipeline_to_edge_by_cpu", "  of the edge, by the CPU time of all these processes", "%.2f", func(r round) float64 { return of(sum(r.Edge.CPU), sum(r.Pipeline.CPU)) }},
	{"form_events_per_second", "from POST to log line, form", "%.0f/s", func(r round) float64 { return r.Form.Rate }},
	{"form_to_json", "  of JSON", "%.2f  (wanted: 0.90)", func(r round) float64 { return of(r.Form.Rate, r.Pipeline.Rate) }},
	{"watermill_events_per_second", "from POST to log line, form, Watermill", "%.0f/s", func(r round) float64 { return r.Peer.Rate }},
	{"form_to_watermill", "  ours of Watermill's", "%.2f  (wanted: 8)", func(r round) float64 { return of(r.Form.Rate, r.Peer.Rate) }},
	{"form_few_events_per_second", "the same with 32 connections, ours", "%.0f/s", func(r round) float64 { return r.FormFew.Rate }},
	{"watermill_few_events_per_second", "the same with 32 connections, Watermill", "%.0f/s", func(r round) float64 { return r.PeerFew.Rate }},
	{"form_few_to_watermill", "  ours of Watermill's", "%.2f  (wanted: 5, better 8)", func(r round) float64 { return of(r.FormFew.Rate, r.PeerFew.Rate) }},
	{"line_p50_ms", "latency at full speed, JSON, p50", "%.0f ms", func(r round) float64 { return line(r.Pipeline).P50 }},
	{"line_p99_ms", "latency at full speed, JSON, p99", "%.0f ms", func(r round) float64 { return line(r.Pipeline).P99 }},
	{"light_line_p50_ms", "latency at 100 a second, JSON, p50", "%.1f ms", func(r round) float64 { return line(r.Light).P50 }},
	{"light_line_p99_ms", "latency at 100 a second, JSON, p99", "%.1f ms", func(r round) float64 { return line(r.Light).P99 }},
	{"form_light_line_p50_ms", "latency at 100 a second, form, p50", "%.1f ms", func(r round) float64 { return line(r.FormLight).P50 }},
	{"form_light_line_p99_ms", "latency at 100 a second, form, p99", "%.1f ms", func(r round) float64 { return line(r.FormLight).P99 }},
	{"watermill_light_line_p50_ms", "latency at 100 a second, Watermill, p50", "%.1f ms", func(r round) float64 { return line(r.PeerLight).P50 }},
	{"watermill_light_line_p99_ms", "latency at 100 a second, Watermill, p99", "%.1f ms", func(r round) float64 { return line(r.PeerLight).P99 }},
	{"form_p50_to_watermill", "  p50, ours of Watermill's", "%.2f  (wanted: at most 1.1)", func(r round) float64 { return of(line(r.FormLight).P50, line(r.PeerLight).P50) }},
	{"form_p99_to_watermill", "  p99, ours of Watermill's", "%.2f  (wanted: at most 1)", func(r round) float64 { return of(line(r.FormLight).P99, line(r.PeerLight).P99) }},
	{"cpu_seconds_per_1000_four_services", "CPU of the four services for 1,000 events, JSON", "%.3f s", func(r round) float64 { return sum(r.Pipeline.CPU, services...) }},
	{"form_cpu_seconds_per_1000_four_services", "CPU of the four services for 1,000 events, form", "%.3f s  (wanted: at most 0.09)", func(r round) float64 { return sum(r.Form.CPU, services...) }},
	{"watermill_cpu_seconds_per_1000_four_services", "CPU of the four services for 1,000 events, Watermill", "%.3f s", func(r round) float64 { return sum(r.Peer.CPU, services...) }},
	{"form_bytes_left", "left in Redis for an hour or more, form", "%.0f bytes  (wanted: at most 400)", func(r round) float64 { return r.Form.Left }},
	{"redis_commands_per_event", "Redis commands an event", "%.1f", func(r round) float64 { return sum(r.Pipeline.Commands) }},
	{"redis_round_trips_per_event", "Redis round trips an event", "%.3f", func(r round) float64 { return r.Pipeline.RoundTrips }},
	{"idle_redis_round_trips_per_second", "Redis round trips of the idle pipeline", "%.1f/s  (wanted: fewer than 12)", func(r round) float64 { return r.IdleTrips }},
}

// of is a/b, and 0 if b was not measured.
func of(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// line is a stretch's latency, 0 if it was not measured.
func line(s stretch) times {
	if s.Line == nil {
		return times{}
	}
	return *s.Line
}

// medians is the median of each figure over the rounds.
func medians(rounds []round) map[string]float64 {
	m := map[string]float64{}
	for _, f := range figures {
		var all []float64
		for _, r := range rounds {
			all = append(all, f.of(r))
		}
		slices.Sort(all)
		m[f.name] = all[len(all)/2]
	}
	return m
}

// write prints the report for people.
func (r report) write(w io.Writer) error {
	fmt.Fprintf(w, "%s\n", r.Machine)
	for _, s := range r.Pipeline {
		if err := s.write(w); err != nil {
			return err
		}
	}
	return nil
}

func (s setting) write(w io.Writer) error {
	title := "appendfsync " + s.Fsync
	if s.Fsync == inMemory {
		title = "in memory"
	}
	fmt.Fprintf(w, "\nRedis %s; %s; medians of %d rounds, %d connections of vegeta, at most %d submissions under way\n",
		title, s.Store, len(s.Rounds), s.Connections, s.Outstanding)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range figures {
		if v := s.Median[f.name]; v > 0 { // else it was not measured
			fmt.Fprintf(tw, "  %s\t"+f.format+"\n", f.label, v)
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "  ledger: %d accepted, %d lines, %d doubled\n", s.Ledger.Accepted, s.Ledger.Lines, s.Ledger.Doubled)
	if p := s.Peer; p != nil {
		fmt.Fprintf(w, "  Watermill's ledger: %d accepted, %d lines, %d doubled\n", p.Accepted, p.Lines, p.Doubled)
	}
	return s.Rounds[len(s.Rounds)-1].write(w)
}

// write prints what the processes of a round cost.
func (r round) write(w io.Writer) error {
	fmt.Fprintln(w, "  CPU seconds for 1,000 events, and memory, in the last round:")
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(tw, "\tJSON\tform\tWatermill\tat 100/s\tdrain\tedge\tedge, form\tbare\tresident\tat most\t\n")
	row := func(name string, of func(cost) float64, memory string) {
		fmt.Fprintf(tw, "    %s\t", name)
		for _, s := range []stretch{r.Pipeline, r.Form, r.Peer, r.FormLight, r.Drain, r.Edge, r.FormEdge, r.Bare} {
			fmt.Fprintf(tw, "%.3f\t", of(s.cost))
		}
		fmt.Fprintf(tw, "%s\t\n", memory)
	}
	p := r.Pipeline.cost
	for _, name := range byValue(p.CPU) {
		row(name, func(c cost) float64 { return c.CPU[name] }, fmt.Sprintf("%.0f MB\t%.0f MB", p.Resident[name], p.Peak[name]))
	}
	row("all of these", func(c cost) float64 { return sum(c.CPU) }, "\t")
	row("elsewhere", func(c cost) float64 { return c.Elsewhere }, "\t")
	row("stolen", func(c cost) float64 { return c.Stolen }, "\t")
	if err := tw.Flush(); err != nil {
		return err
	}
	var parts []string
	for _, name := range byValue(p.Commands) {
		parts = append(parts, fmt.Sprintf("%s %.3g", name, p.Commands[name]))
	}
	_, err := fmt.Fprintf(w, "  Redis commands an event: %s\n", strings.Join(parts, ", "))
	return err
}

// byValue are the keys of m, that of the largest value first.
func byValue(m map[string]float64) []string {
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int { return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b)) })
}
