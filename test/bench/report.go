//go:build linux

package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is what a run of the benchmark measured.
type Report struct {
	At         time.Time   `json:"at"`
	Machine    Machine     `json:"machine"`
	Pipeline   []Setting   `json:"pipeline,omitempty"`
	Benchmarks []Benchmark `json:"go_benchmarks,omitempty"`
}

// Setting is the whole pipeline on a Redis with one durability.
type Setting struct {
	Fsync       string  `json:"appendfsync"` // "off": in memory, without a log
	Store       string  `json:"store"`
	Connections int     `json:"connections"`
	Outstanding int     `json:"outstanding"` // most submissions without a line while the whole pipeline was measured
	Rounds      []Round `json:"rounds"`
	Median      Ratios  `json:"median"` // of each figure on its own
	Ledger      Ledger  `json:"ledger"`
}

// Round is one turn of everything that is compared.
type Round struct {
	Edge     Stretch `json:"edge"`          // web-api with all stages stopped
	Bare     Stretch `json:"bare,omitzero"` // the echo handler with one script call; zero if it was not there
	Drain    Stretch `json:"drain"`         // what the edge left, from the stages' start to the last line
	Light    Stretch `json:"light"`         // from POST to log line, 100 a second
	Pipeline Stretch `json:"pipeline"`      // from POST to log line, as fast as it goes
	Idle     Idle    `json:"idle"`
}

// Idle is what is to be seen while nobody submits.
type Idle struct {
	RoundTrips float64 `json:"redis_round_trips_per_second"` // of all services
	Ping       Times   `json:"ping_ms"`                      // of a bare client, which tells what the machine's loopback takes
}

// Stretch is one measurement.
type Stretch struct {
	Seconds     float64            `json:"seconds"`
	Events      int                `json:"events"`
	Rate        float64            `json:"events_per_second"`
	Post        *Times             `json:"post_ms,omitempty"` // from POST to its answer
	Line        *Times             `json:"line_ms,omitempty"` // from POST to the line in the log
	Outstanding *Backlog           `json:"backlog,omitempty"`
	Resident    map[string]float64 `json:"resident_mb,omitempty"` // by process, at the end
	Peak        map[string]float64 `json:"resident_peak_mb,omitempty"`
	Cost
}

// Cost is what events cost.
type Cost struct {
	CPU        map[string]float64 `json:"cpu_seconds_per_1000"`           // by process
	Elsewhere  float64            `json:"cpu_seconds_per_1000_elsewhere"` // the rest of the machine: a store that was given, the kernel, others
	Stolen     float64            `json:"cpu_seconds_per_1000_stolen"`    // by the host of a virtual machine
	Commands   map[string]float64 `json:"redis_commands_per_event"`       // those inside scripts, too
	RoundTrips float64            `json:"redis_round_trips_per_event"`
}

// all is the CPU time of all processes that were started for the measurement or given to it.
func (c Cost) all() (s float64) {
	for _, cpu := range c.CPU {
		s += cpu
	}
	return s
}

// services is the CPU time of the four services.
func (c Cost) services() (s float64) {
	for _, name := range services {
		s += c.CPU[name]
	}
	return s
}

// commands is how many Redis commands an event took.
func (c Cost) commands() (n float64) {
	for _, k := range c.Commands {
		n += k
	}
	return n
}

// services are those an event passes.
var services = []string{"web-api", "distance", "db", "email"}

// Times is a distribution, in milliseconds.
type Times struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func timesOf(sorted []time.Duration) *Times {
	if len(sorted) == 0 {
		return nil
	}
	at := func(share float64) float64 {
		return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))].Seconds() * 1000
	}
	return &Times{at(0.5), at(0.99), at(1)}
}

// Backlog is how many submissions had no line: the mean of the first and of the last third of a stretch, and the most.
type Backlog struct {
	First float64 `json:"first_third"`
	Last  float64 `json:"last_third"`
	Most  int     `json:"most"`
}

func backlogOf(samples []int) *Backlog {
	if len(samples) < 3 {
		return nil
	}
	mean := func(s []int) (m float64) {
		for _, n := range s {
			m += float64(n) / float64(len(s))
		}
		return m
	}
	third := len(samples) / 3
	return &Backlog{mean(samples[:third]), mean(samples[len(samples)-third:]), slices.Max(samples)}
}

// Ratios are the figures that others can compare.
type Ratios struct {
	EdgeRate     float64  `json:"edge_events_per_second"`
	BareRate     float64  `json:"bare_events_per_second,omitempty"`
	DrainRate    float64  `json:"drain_events_per_second,omitempty"`
	PipelineRate float64  `json:"pipeline_events_per_second"`
	EdgeToBare   *float64 `json:"edge_to_bare,omitempty"`
	ToEdge       float64  `json:"pipeline_to_edge"`
	ToEdgeCPU    float64  `json:"pipeline_to_edge_by_cpu"` // the same ratio if nothing but CPU time counted: other programs change it less
	ServicesCPU  float64  `json:"cpu_seconds_per_1000_four_services"`
	Line         Times    `json:"line_ms"`
	LightLine    Times    `json:"light_line_ms"` // at 100 a second
	IdleTrips    float64  `json:"idle_redis_round_trips_per_second"`
	Ping         float64  `json:"ping_ms"` // the median
	Commands     float64  `json:"redis_commands_per_event"`
	RoundTrips   float64  `json:"redis_round_trips_per_event"`
}

// Ledger is what all rounds of a setting came to.
type Ledger struct {
	Accepted int `json:"accepted"` // without what was thrown away
	Lines    int `json:"lines"`
	Doubled  int `json:"doubled"`
}

func medians(rounds []Round) Ratios {
	of := func(figure func(Round) float64) float64 {
		all := make([]float64, len(rounds))
		for i, r := range rounds {
			all[i] = figure(r)
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	times := func(which func(Round) *Times) Times {
		at := func(pick func(Times) float64) float64 { return of(func(r Round) float64 { return pick(*which(r)) }) }
		return Times{
			at(func(t Times) float64 { return t.P50 }), at(func(t Times) float64 { return t.P99 }), at(func(t Times) float64 { return t.Max }),
		}
	}
	m := Ratios{
		EdgeRate:     of(func(r Round) float64 { return r.Edge.Rate }),
		DrainRate:    of(func(r Round) float64 { return r.Drain.Rate }),
		PipelineRate: of(func(r Round) float64 { return r.Pipeline.Rate }),
		ToEdge:       of(func(r Round) float64 { return r.Pipeline.Rate / r.Edge.Rate }),
		ToEdgeCPU:    of(func(r Round) float64 { return r.Edge.all() / r.Pipeline.all() }),
		ServicesCPU:  of(func(r Round) float64 { return r.Pipeline.services() }),
		Commands:     of(func(r Round) float64 { return r.Pipeline.commands() }),
		RoundTrips:   of(func(r Round) float64 { return r.Pipeline.RoundTrips }),
		Line:         times(func(r Round) *Times { return r.Pipeline.Line }),
		LightLine:    times(func(r Round) *Times { return r.Light.Line }),
		IdleTrips:    of(func(r Round) float64 { return r.Idle.RoundTrips }),
		Ping:         of(func(r Round) float64 { return r.Idle.Ping.P50 }),
	}
	if rounds[0].Bare.Events > 0 {
		ratio := of(func(r Round) float64 { return r.Edge.Rate / r.Bare.Rate })
		m.BareRate, m.EdgeToBare = of(func(r Round) float64 { return r.Bare.Rate }), &ratio
	}
	return m
}

// Write prints the report for people.
func (r Report) Write(w io.Writer) error {
	fmt.Fprintf(w, "%s\n", r.Machine)
	for _, s := range r.Pipeline {
		if err := s.write(w); err != nil {
			return err
		}
	}
	if len(r.Benchmarks) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nThe runtime's parts, by Go benchmarks")
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, b := range r.Benchmarks {
		fmt.Fprintf(tw, "  %s\t%s\t%s\n", b.Package, b.Name, b)
	}
	return tw.Flush()
}

func (s Setting) title() string {
	if s.Fsync == InMemory {
		return "in memory"
	}
	return "appendfsync " + s.Fsync
}

func (s Setting) write(w io.Writer) error {
	m := s.Median
	fmt.Fprintf(w, "\nRedis %s; %s; medians of %d rounds, %d connections of vegeta\n", s.title(), s.Store, len(s.Rounds), s.Connections)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if m.EdgeToBare != nil {
		fmt.Fprintf(tw, "  a bare echo handler, one script call a request\t%.0f/s\n", m.BareRate)
		fmt.Fprintf(tw, "  the edge alone, stages stopped\t%.0f/s\t%.2f of the bare handler (wanted: 0.80)\n", m.EdgeRate, *m.EdgeToBare)
	} else {
		fmt.Fprintf(tw, "  the edge alone, stages stopped\t%.0f/s\n", m.EdgeRate)
	}
	if m.DrainRate > 0 {
		fmt.Fprintf(tw, "  the stages alone, draining what the edge left\t%.0f/s\n", m.DrainRate)
	}
	fmt.Fprintf(tw, "  from POST to log line\t%.0f/s\t%.2f of the edge alone (wanted: 0.60)\n", m.PipelineRate, m.ToEdge)
	fmt.Fprintf(tw, "  the same by the CPU time of all processes\t\t%.2f, which other programs on the machine change less\n", m.ToEdgeCPU)
	fmt.Fprintf(tw, "  its time, with %d under way\tp50 %.0f ms\tp99 %.0f ms, max %.0f ms\n", s.Outstanding, m.Line.P50, m.Line.P99, m.Line.Max)
	fmt.Fprintf(tw, "  its time at %d a second\tp50 %.1f ms\tp99 %.1f ms, max %.1f ms; a PING takes %.2f ms\n", lightly, m.LightLine.P50, m.LightLine.P99, m.LightLine.Max, m.Ping)
	fmt.Fprintf(tw, "  CPU of the four services for 1,000 events\t%.3f s\t(wanted: at most 0.16)\n", m.ServicesCPU)
	fmt.Fprintf(tw, "  Redis commands an event, and round trips\t%.1f\t%.3f\n", m.Commands, m.RoundTrips)
	fmt.Fprintf(tw, "  round trips of the idle pipeline\t%.1f/s\t(wanted: fewer than 12)\n", m.IdleTrips)
	if err := tw.Flush(); err != nil {
		return err
	}
	last := s.Rounds[len(s.Rounds)-1]
	if b := last.Pipeline.Outstanding; b != nil {
		fmt.Fprintf(w, "  backlog of the last round: %.0f in its first third, %.0f in its last, %d at most\n", b.First, b.Last, b.Most)
	}
	fmt.Fprintf(w, "  ledger: %d accepted, %d lines, %d doubled\n", s.Ledger.Accepted, s.Ledger.Lines, s.Ledger.Doubled)
	return last.write(w)
}

// write prints what the processes of a round cost.
func (r Round) write(w io.Writer) error {
	names := slices.SortedFunc(maps.Keys(r.Pipeline.CPU), func(a, b string) int {
		return cmp.Compare(r.Pipeline.CPU[b], r.Pipeline.CPU[a])
	})
	fmt.Fprintln(w, "  CPU seconds for 1,000 events, and memory, in the last round:")
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(tw, "\tpipeline\tat 100/s\tdrain\tedge\tbare\tresident\tat most\t\n")
	row := func(name string, of func(Cost) float64, resident bool) {
		cells := []string{}
		for _, s := range []Stretch{r.Pipeline, r.Light, r.Drain, r.Edge, r.Bare} {
			cells = append(cells, fmt.Sprintf("%.3f", of(s.Cost)))
		}
		if resident {
			cells = append(cells, fmt.Sprintf("%.0f MB", r.Pipeline.Resident[name]), fmt.Sprintf("%.0f MB", r.Pipeline.Peak[name]))
		} else {
			cells = append(cells, "", "")
		}
		fmt.Fprintf(tw, "    %s\t%s\t\n", name, strings.Join(cells, "\t"))
	}
	for _, name := range names {
		row(name, func(c Cost) float64 { return c.CPU[name] }, true)
	}
	row("all of these", Cost.all, false)
	row("elsewhere", func(c Cost) float64 { return c.Elsewhere }, false)
	row("stolen", func(c Cost) float64 { return c.Stolen }, false)
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "  Redis commands an event: %s\n", counts(r.Pipeline.Commands))
	return err
}

// lightly is how many submissions a second leave the machine with little to do.
const lightly = 100

// counts lists what is counted, the most frequent first.
func counts(m map[string]float64) string {
	names := slices.SortedFunc(maps.Keys(m), func(a, b string) int { return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b)) })
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = fmt.Sprintf("%s %.3g", name, m[name])
	}
	return strings.Join(parts, ", ")
}
