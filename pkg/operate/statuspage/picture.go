package statuspage

import (
	"slices"

	"github.com/milepost/milepost/pkg/operate"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

type channel struct {
	Name       string
	Rate       *float64
	Live       bool     // entries arrive now
	Publishers []string // these read no channel
	Also       []string // the same, if stages publish on it too
	Readers    []reader
	Elsewhere  bool // the picture shows it, and its readers, in another place
}

type reader struct {
	operate.Row
	Age string // of its oldest entry
	Out []channel
}

// noGroup is the state of a stage whose consumer group was removed.
const noGroup = "has no group"

// picture returns the pipeline as trees, in the order of flow: required stages before optional
// ones. A channel stands behind the deepest of the stages that publish on it.
func picture(s inspect.Seen, rows []operate.Row) []channel {
	depths := inspect.Depths(s.Stages)
	behind := map[string]string{} // a channel's stage
	publishers := map[string][]string{}
	for _, i := range s.Stages {
		for _, o := range i.Out {
			if i.In == "" {
				publishers[o.Channel] = append(publishers[o.Channel], i.Name)
			} else if b, ok := behind[o.Channel]; !ok || depths[b] < depths[i.Name] {
				behind[o.Channel] = i.Name
			}
		}
	}
	drawn := map[string]bool{}
	var draw func(name, from string) channel
	draw = func(name, from string) channel {
		status, _ := s.Channel(name)
		c := channel{Name: name, Rate: status.Rate, Live: status.Rate != nil && *status.Rate > 0}
		if c.Elsewhere = drawn[name] || behind[name] != from; c.Elsewhere {
			return c
		}
		drawn[name] = true
		if c.Publishers = publishers[name]; from != "" {
			c.Publishers, c.Also = nil, c.Publishers
		}
		for _, optional := range []bool{false, true} {
			for _, i := range s.Stages {
				if i.In != name || i.Optional != optional {
					continue
				}
				r := reader{Row: operate.Row{Stage: i.Name, Optional: optional, State: noGroup}}
				if at := slices.IndexFunc(rows, func(r operate.Row) bool {
					return r.Stage == i.Name && r.Channel == name
				}); at >= 0 {
					r.Row = rows[at]
				}
				r.Age = operate.Ago(s.At, r.Oldest)
				for _, o := range i.Out {
					r.Out = append(r.Out, draw(o.Channel, i.Name))
				}
				c.Readers = append(c.Readers, r)
			}
		}
		return c
	}
	var roots []channel
	for _, circular := range []bool{false, true} { // a circle has no beginning; cut it anywhere
		for _, c := range s.Channels {
			if from := behind[c.Channel]; !drawn[c.Channel] && (from == "" || circular) {
				roots = append(roots, draw(c.Channel, from))
			}
		}
	}
	return roots
}
