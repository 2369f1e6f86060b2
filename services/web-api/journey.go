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

// milestone is what the page has to say about a stage. Stages that are not listed here show up under their own name as
// soon as they report.
type milestone struct {
	Stage   string
	Label   string
	Waiting string // what to say while it is late
	last    bool   // with it the journey is over
}

var milestones = []milestone{
	{Stage: Name, Label: "Submitted", Waiting: "Still waiting for word from the pipeline."},
	{Stage: "distance", Label: "Distance", Waiting: "Still waiting for the distance. Your submission is safe; it is worked on as soon as the distance service gets to it."},
	{Stage: "db", Label: "Stored", Waiting: "Still waiting for the store. The distance is safe; it is stored as soon as the store answers."},
	{Stage: "email", Label: "Emailed", Waiting: "Still waiting for the email. It is stored already; the email is written as soon as the email service gets to it.", last: true},
}

// step is a [stage.Step] as the browser gets it.
type step struct {
	ID     string          `json:"id"`
	Stage  string          `json:"stage"`
	State  string          `json:"state"` // "done", "retry" or "dead"
	At     time.Time       `json:"at"`
	Next   []string        `json:"next,omitempty"`   // the channels it went on to
	Detail json.RawMessage `json:"detail,omitempty"` // what the stage shows of itself
}

// journey is what is known of a submission, ready to be shown.
type journey struct {
	ID    string `json:"id"`
	State string `json:"state"` // "under way", "done" or "dead"
	Steps []step `json:"steps"` // in order of time

	stops   []stop
	miles   string
	waiting string
}

// Miles is the distance, once it is known.
func (j journey) Miles() string { return j.miles }

// Waiting is what to say of a step that is late.
func (j journey) Waiting() string { return j.waiting }

// stop is one line of the journey.
type stop struct {
	Stage, Label, Waiting string
	State                 string // as stage.Step's; "" while it is still to come, "passed" if a later one is done
	After                 string // time since the submission
	Detail                string
}

const (
	underWay = "under way"
	arrived  = "done"
	dead     = "dead"
)

// newJourney merges the steps, the last one of each stage.
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
		if s.Stage == Name {
			start = s.At
		}
	}
	if start.IsZero() && len(steps) > 0 {
		start = j.Steps[0].At
	}
	for _, m := range milestones {
		s, ok := latest[m.Stage]
		delete(latest, m.Stage)
		stop := stop{Stage: m.Stage, Label: m.Label, Waiting: m.Waiting}
		if ok {
			stop.State, stop.After, stop.Detail = s.State, since(s.At.Sub(start)), detail(s.Detail)
			if s.State == "done" {
				for i := range j.stops {
					if j.stops[i].State == "" { // a stand-in did it that reports nothing
						j.stops[i].State = "passed"
					}
				}
				if m.last {
					j.State = arrived
				}
			}
		}
		j.stops = append(j.stops, stop)
	}
	others := slices.SortedFunc(maps.Values(latest), func(a, b step) int { return a.At.Compare(b.At) })
	for _, s := range others {
		j.stops = append(j.stops, stop{Stage: s.Stage, Label: s.Stage, State: s.State, After: since(s.At.Sub(start)), Detail: detail(s.Detail)})
	}
	for _, s := range j.Steps {
		var shown struct{ Miles *float64 }
		if json.Unmarshal(s.Detail, &shown) == nil && shown.Miles != nil {
			j.miles = inMiles(*shown.Miles)
		}
		if s.State == "dead" && slices.ContainsFunc(milestones, func(m milestone) bool { return m.Stage == s.Stage }) {
			j.State = dead
		}
	}
	return j
}

// expected is how long a step takes at most when nothing is in the way, with room to spare.
const expected = 3 * time.Second

// late is what the journey is waiting for, if at that time it has waited longer than expected.
func (j journey) late(now time.Time) string {
	if j.State != underWay || len(j.Steps) == 0 || now.Sub(j.Steps[len(j.Steps)-1].At) < expected {
		return ""
	}
	for _, s := range j.stops {
		if s.State == "" || s.State == "retry" {
			return s.Waiting
		}
	}
	return ""
}

// Stops are the lines of the journey: the known stages in their order, then what else reported.
func (j journey) Stops() []stop { return j.stops }

// since writes a duration as a person reads it.
func since(d time.Duration) string {
	switch {
	case d < 0:
		d = 0
		fallthrough
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	}
	return fmt.Sprintf("%d h", int(d.Hours()))
}

// detail writes what a stage showed of itself: the distance in words, anything else by its own names. Times are left out;
// each step has its own.
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

// inMiles writes a distance with two decimals and commas between thousands.
func inMiles(v float64) string {
	whole, fraction, _ := strings.Cut(strconv.FormatFloat(v, 'f', 2, 64), ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	return whole + "." + fraction + " miles"
}

// Words are the stop's state for who cannot see its mark.
func (s stop) Words() string { return stateWords[s.State] }

var stateWords = map[string]string{
	"": "to come", "passed": "done", "done": "done", "retry": "failed, will be tried again", "dead": "failed and set aside",
}
