package statuspage

import (
	"fmt"
	"strings"
	"time"

	"github.com/milepost/milepost/pkg/operate"
)

// span is the time that a sparkline shows.
const span = 2 * time.Minute

// past is what the page has shown of each stage in the last span, while somebody looked.
type past map[[2]string][]moment

type moment struct {
	at            time.Time
	rate, backlog float64
}

func (p past) add(at time.Time, rows []operate.Row) {
	for _, r := range rows {
		m := moment{at: at, backlog: float64(r.Backlog)}
		if r.Rate != nil {
			m.rate = *r.Rate
		}
		key := [2]string{r.Stage, r.Channel}
		all := append(p[key], m)
		for at.Sub(all[0].at) > span {
			all = all[1:]
		}
		p[key] = all
	}
}

// spark is a line of 120 by 24 units, and what it says.
type spark struct{ Path, Label string }

// Spark returns the line of the rate or the backlog of a stage; nil before there are two moments.
func (v view) Spark(r operate.Row, what string) *spark {
	all := v.past[[2]string{r.Stage, r.Channel}]
	if len(all) < 2 {
		return nil
	}
	value := func(m moment) float64 {
		if what == "rate" {
			return m.rate
		}
		return m.backlog
	}
	most := 0.0
	for _, m := range all {
		most = max(most, value(m))
	}
	var d strings.Builder
	for i, m := range all {
		x, y := 119-v.At.Sub(m.at).Seconds()/span.Seconds()*118, 22.5
		if most > 0 {
			y -= value(m) / most * 21
		}
		fmt.Fprintf(&d, "%c%.1f %.1f", "ML"[min(i, 1)], x, y)
	}
	label := fmt.Sprintf("the last two minutes, at most %.0f", most)
	if what == "rate" {
		label = "the last two minutes, at most " + operate.Rate(&most)
	}
	return &spark{d.String(), label}
}
