package webapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/milepost/milepost/pkg/stage"
)

// milestone is a stage on the main way, with the page's words for it. The page shows any other
// stage under its own name once it reports.
type milestone struct {
	Stage   string
	Label   string
	Waiting string // shown while it is late
	last    bool   // it completes the submission
}

var milestones = []milestone{
	{Stage: Name, Label: "Received", Waiting: "Still waiting for the pipeline."},
	{Stage: "distance", Label: "Measured", Waiting: "Still waiting for the distance. Your submission is safe. The distance service will handle it as soon as it can."},
	{Stage: "db", Label: "Saved", Waiting: "Still waiting for the store. Your distance is safe. It will be stored as soon as the store answers."},
	{Stage: "email", Label: "Emailed", Waiting: "Still waiting for the email. Your distance is stored. The email service will write the email as soon as it can.", last: true},
}

// step is a [stage.Step] in JSON for browsers.
type step struct {
	ID     string          `json:"id"`
	Stage  string          `json:"stage"`
	State  string          `json:"state"` // "done", "retry" or "dead"
	At     time.Time       `json:"at"`
	Next   []string        `json:"next,omitempty"`   // channels that the stage published on
	Detail json.RawMessage `json:"detail,omitempty"` // what the stage reports
}

// journey is the progress of a submission, ready to be shown. assets/progress.js draws the same.
type journey struct {
	ID    string `json:"id"`
	State string `json:"state"` // "under way", "done" or "dead"
	Steps []step `json:"steps"` // in order of time

	Stops   []stop   `json:"-"` // the milestones in their order, then other stages that reported
	Miles   *float64 `json:"-"` // nil until the distance is known
	Waiting string   `json:"-"` // the words of the milestone that is late; "" if none is
}

type stop struct {
	Stage, Label, Waiting string
	State                 string // as stage.Step's; "" if still to come; "passed" if a later one is done
	After                 string // time since the submission
	Detail                string
	took                  time.Duration
	last                  bool
}

const (
	underWay = "under way"
	arrived  = "done"
	dead     = "dead"
)

// newJourney returns the journey of the steps. Of several steps of a stage, the last one counts.
func newJourney(id string, steps []stage.Step) journey {
	j := journey{ID: id, State: underWay, Steps: make([]step, len(steps))}
	for i, s := range steps {
		j.Steps[i] = step(s)
	}
	slices.SortStableFunc(j.Steps, func(a, b step) int { return a.At.Compare(b.At) })
	latest := map[string]step{}
	var start time.Time
	for _, s := range j.Steps {
		latest[s.Stage] = s
		if start.IsZero() || s.Stage == Name {
			start = s.At
		}
		var shown struct{ Miles *float64 }
		if json.Unmarshal(s.Detail, &shown) == nil && shown.Miles != nil {
			j.Miles = shown.Miles
		}
	}
	add := func(m milestone, s step) {
		stop := stop{Stage: m.Stage, Label: m.Label, Waiting: m.Waiting, State: s.State, Detail: detail(s.Detail), last: m.last}
		if s.State != "" {
			stop.took = s.At.Sub(start)
			stop.After = since(stop.took)
		}
		j.Stops = append(j.Stops, stop)
	}
	for _, m := range milestones {
		s := latest[m.Stage]
		delete(latest, m.Stage)
		switch s.State {
		case "done":
			for i := range j.Stops { // a program in place of an earlier stage may report nothing
				if j.Stops[i].State == "" {
					j.Stops[i].State = "passed"
				}
			}
			if m.last && j.State != dead {
				j.State = arrived
			}
		case "dead":
			j.State = dead
		}
		add(m, s)
	}
	for _, s := range slices.SortedFunc(maps.Values(latest), func(a, b step) int { return a.At.Compare(b.At) }) {
		add(milestone{Stage: s.Stage, Label: s.Stage}, s)
	}
	return j
}

// expected is the time after which a step counts as late. A step normally takes milliseconds.
const expected = 3 * time.Second

// late returns the words of the milestone that the journey waits for, if it is late at the time
// now.
func (j journey) late(now time.Time) string {
	if j.State != underWay || len(j.Steps) == 0 || now.Sub(j.Steps[len(j.Steps)-1].At) < expected {
		return ""
	}
	for _, s := range j.Stops {
		if s.State == "" || s.State == "retry" {
			return s.Waiting
		}
	}
	return ""
}

// Status says in a sentence for visitors how far the submission is. It returns "" for one without
// steps.
func (j journey) Status() string {
	if j.State == dead {
		return "Stopped by an error"
	}
	said := ""
	for _, s := range j.Stops {
		switch {
		case s.Waiting == "":
		case s.State == "retry":
			return "A step failed and will be tried again"
		case s.State == "done" && s.last:
			return "Emailed " + inWords(s.took)
		case s.State == "done":
			said = map[string]string{Name: "Received", "distance": "Distance measured", "db": "Distance saved"}[s.Stage]
		}
	}
	if said != "" {
		said += ", on the way to the next step"
	}
	return said
}

// inWords formats how long something took for visitors.
func inWords(d time.Duration) string {
	n, unit := int(d.Hours()), "hour"
	switch {
	case d < time.Second:
		return "in less than a second"
	case d < time.Minute:
		n, unit = int(d.Seconds()), "second"
	case d < time.Hour:
		n, unit = int(d.Minutes()), "minute"
	}
	if n != 1 {
		unit += "s"
	}
	return fmt.Sprintf("in %d %s", n, unit)
}

// since formats a duration for operators.
func since(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", max(0, d.Milliseconds()))
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	}
	return fmt.Sprintf("%d h", int(d.Hours()))
}

// detail formats what a stage reports: names and values, except times, since each step has its own.
func detail(raw json.RawMessage) string {
	var fields map[string]any
	if json.Unmarshal(raw, &fields) != nil {
		return ""
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		switch v := fields[name].(type) {
		case float64:
			if name == "miles" {
				parts = append(parts, inMiles(v))
			} else {
				parts = append(parts, name+" "+strconv.FormatFloat(v, 'f', -1, 64))
			}
		case string:
			if !strings.HasSuffix(name, "_at") {
				parts = append(parts, name+" "+v)
			}
		}
	}
	return strings.Join(parts, ", ")
}

func inMiles(v float64) string { return grouped(v) + " miles" }

// grouped formats a distance with two decimals and commas between thousands.
func grouped(v float64) string {
	whole, fraction, _ := strings.Cut(strconv.FormatFloat(v, 'f', 2, 64), ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	return whole + "." + fraction
}

// Words describe the stop's state for screen readers.
func (s stop) Words() string { return stateWords[s.State] }

var stateWords = map[string]string{
	"": "to come", "passed": "done", "done": "done", "retry": "failed, will be tried again", "dead": "failed for good",
}
