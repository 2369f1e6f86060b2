package webapi

import (
	"fmt"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// stepAt is a step some milliseconds after noon.
func stepAt(ms int, name, state, detail string) stage.Step {
	s := stage.Step{ID: someID, Stage: name, State: state, At: noon.Add(time.Duration(ms) * time.Millisecond)}
	if detail != "" {
		s.Detail = []byte(detail)
	}
	return s
}

const someID = "01a1fc5b-e734-71ea-a26d-032c3e935701"

func TestJourney(t *testing.T) {
	for name, tc := range map[string]struct {
		steps []stage.Step
		state string
		want  string // state, time and detail of each stop
	}{
		"nothing known": {nil, underWay, "[web-api   ][distance   ][db   ][email   ]"},
		"on its way": {
			[]stage.Step{stepAt(0, Name, "done", ""), stepAt(12, "distance", "done", `{"miles":5679.936314229341}`)}, underWay,
			"[web-api done 0 ms ][distance done 12 ms 5,679.94 miles][db   ][email   ]",
		},
		"arrived, told out of order, with a stage nobody knows": {
			[]stage.Step{
				stepAt(1500, "email", "done", `{"sent_at":"2026-11-21T12:00:01Z"}`), stepAt(0, Name, "done", ""),
				stepAt(90, "weather", "done", `{"temperature":21.5,"source":"provider"}`),
				stepAt(12, "distance", "done", `{"miles":12}`), stepAt(1400, "db", "done", ""),
			}, arrived,
			"[web-api done 0 ms ][distance done 12 ms 12.00 miles][db done 1.4 s ][email done 1.5 s ][weather done 90 ms source provider, temperature 21.5]",
		},
		"a stand-in that reports nothing": {
			[]stage.Step{stepAt(0, Name, "done", ""), stepAt(61_000, "email", "done", "")}, arrived,
			"[web-api done 0 ms ][distance passed  ][db passed  ][email done 1 min ]",
		},
		"tried again": {
			[]stage.Step{stepAt(0, Name, "done", ""), stepAt(20, "distance", "retry", "")}, underWay,
			"[web-api done 0 ms ][distance retry 20 ms ][db   ][email   ]",
		},
		"dead": {
			[]stage.Step{stepAt(0, Name, "done", ""), stepAt(7_200_000, "distance", "dead", "")}, dead,
			"[web-api done 0 ms ][distance dead 2 h ][db   ][email   ]",
		},
		"a stage beside the way is dead": {
			[]stage.Step{stepAt(0, Name, "done", ""), stepAt(5, "weather", "dead", "")}, underWay,
			"[web-api done 0 ms ][distance   ][db   ][email   ][weather dead 5 ms ]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJourney(someID, tc.steps)
			got := ""
			for _, s := range j.Stops {
				got += fmt.Sprintf("[%s %s %s %s]", s.Stage, s.State, s.After, s.Detail)
			}
			if got != tc.want || j.State != tc.state {
				t.Errorf("newJourney(%v)\n is %q %s\nwant %q %s", tc.steps, j.State, got, tc.state, tc.want)
			}
		})
	}
}

func TestInMiles(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0.00 miles", 0.005: "0.01 miles", 999.999: "1,000.00 miles", 12429.866739880: "12,429.87 miles", 1234567.8: "1,234,567.80 miles",
	} {
		if got := inMiles(v); got != want {
			t.Errorf("inMiles(%v) = %q; want %q", v, got, want)
		}
	}
}
