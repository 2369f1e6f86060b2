package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/milepost/milepost/pkg/operate"
)

// pipeline checks what the stages report: what status says is wrong, and how near the limits are.
func (x *examination) pipeline(ctx context.Context) {
	const means = "A stage that does not run, or a forgotten group of another program, keeps its entries, and Redis fills up. " +
		"Without an adopter, bare PUBLISHes of other programs are lost to the stages."
	if x.Without != nil {
		state := Failed
		if strings.Contains(x.Without.Error(), "none has started") {
			state = Warning
		}
		x.add("pipeline", means, answer{state, x.Without.Error(), "Start the services."})
		return
	}
	seen, err := x.Pipeline.Observer(0).Observe(ctx)
	if err != nil {
		x.add("pipeline", means, answer{Unknown, err.Error(), "Fix what is above first."})
		return
	}
	rows := operate.Rows(seen)
	state, found := OK, []string{fmt.Sprintf("%d running", len(rows))}
	if len(rows) == 0 {
		state, found = Warning, []string{"no stage has ever run here"}
	}
	for i, p := range operate.Problems(seen, "") { // the urgent ones come first
		switch {
		case i > 0:
		case p.Urgent:
			state, found = Failed, nil
		default:
			state, found = Warning, nil
		}
		found = append(found, p.Text)
	}
	x.add("pipeline", means, answer{state, strings.Join(found, "; "), "`milepostctl status` says what to do about each."})
	dead, backlogs := map[string]int{}, map[string]int{}
	for _, c := range seen.Channels {
		dead[c.Channel] = c.Dead
	}
	for _, r := range rows {
		if !r.Optional {
			backlogs[r.Stage] = max(backlogs[r.Stage], r.Backlog)
		}
	}
	x.add("dead letters", "Dead letters wait for a person. A channel keeps so many (MAX_DEAD); then the oldest are lost.", nearest(dead, x.Tuning.MaxDead,
		"`milepostctl dead list` shows them with their errors. Fix the causes, then `milepostctl dead replay`; drop the rubbish."))
	x.add("backlog", "When a required group has so many events to settle (MAX_BACKLOG), web-api answers 503.", nearest(backlogs, x.Tuning.MaxBacklog,
		"Add replicas of the stage, or find out with `milepostctl status` what it waits for."))
}

// nearest says how near the largest of some counts is to its limit.
func nearest(counts map[string]int, most int, change string) answer {
	found, largest := "none", 0
	for name, n := range counts {
		if n > largest {
			largest, found = n, fmt.Sprintf("%s has %d of %d", name, n, most)
		}
	}
	return nearness(float64(largest)/float64(most), found, 0.5, 0.8, change)
}
