//go:build linux

package main

import (
	"math"
	"testing"
	"time"
)

func TestMedians(t *testing.T) {
	line := func(p50 float64) *times { return &times{p50, 2 * p50, 3 * p50} }
	turn := func(edge, bare, pipeline, p50 float64) round {
		return round{
			Edge: stretch{Rate: edge, cost: cost{CPU: map[string]float64{"web-api": 4, "redis": 0.55}}}, Bare: stretch{Events: 1, Rate: bare}, Light: stretch{Line: line(1)},
			Pipeline: stretch{Rate: pipeline, Line: line(p50), cost: cost{
				CPU: map[string]float64{"web-api": 0.04, "distance": 0.02, "db": 0.03, "email": 0.01, "redis": 9}, Commands: map[string]float64{"xadd": 4, "xack": 3},
			}},
		}
	}
	m := medians([]round{turn(100, 100, 80, 5), turn(300, 200, 60, 1), turn(200, 400, 150, 9)})
	for name, want := range map[string]float64{
		"edge_events_per_second": 200, "bare_events_per_second": 200, "edge_to_bare": 1, "pipeline_events_per_second": 80, "pipeline_to_edge": 0.75,
		"line_p50_ms": 5, "line_p99_ms": 10, "redis_commands_per_event": 7,
		"pipeline_to_edge_by_cpu":            0.5, // 4.55 s against 9.1 s
		"cpu_seconds_per_1000_four_services": 0.1, // without Redis
	} {
		if math.Abs(m[name]-want) > 1e-9 {
			t.Errorf("%s = %v, want %v", name, m[name], want)
		}
	}
}

func TestTimes(t *testing.T) {
	var sorted []time.Duration
	for i := range 200 {
		sorted = append(sorted, time.Duration(i+1)*time.Millisecond)
	}
	if got := *timesOf(sorted); got != (times{101, 199, 200}) {
		t.Errorf("timesOf(1…200 ms) = %+v", got)
	}
	if timesOf(nil) != nil {
		t.Error("times of nothing")
	}
}
