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
		x.add("pipeline", state, x.Without.Error(), means, "Start the services.")
		return
	}
	seen, err := x.Pipeline.Observer(0).Observe(ctx)
	if err != nil {
		x.add("pipeline", Unknown, err.Error(), means, "Fix what is above first.")
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
	x.add("pipeline", state, strings.Join(found, "; "), means, "`milepostctl status` says what to do about each.")
	dead, backlogs := map[string]int{}, map[string]int{}
	for _, c := range seen.Channels {
		dead[c.Channel] = c.Dead
	}
	for _, r := range rows {
		if !r.Optional {
			backlogs[r.Stage] = max(backlogs[r.Stage], r.Backlog)
		}
	}
	x.limit("dead letters", dead, x.Limits.MaxDead, "Dead letters wait for a person. A channel keeps so many (MAX_DEAD); then the oldest are lost.",
		"`milepostctl dead list` shows them with their errors. Fix the causes, then `milepostctl dead replay`; drop the rubbish.")
	x.limit("backlog", backlogs, x.Limits.MaxBacklog, "When a required group has so many events to settle (MAX_BACKLOG), web-api answers 503.",
		"Add replicas of the stage, or find out with `milepostctl status` what it waits for.")
}

// limit checks how near the largest of some counts is to its limit.
func (x *examination) limit(check string, counts map[string]int, most int, means, change string) {
	state, found, largest := OK, "none", 0
	for name, n := range counts {
		if n > largest {
			largest, found = n, fmt.Sprintf("%s has %d of %d", name, n, most)
		}
	}
	switch {
	case largest >= most*8/10:
		state = Failed
	case largest >= most/2:
		state = Warning
	}
	x.add(check, state, found, means, change)
}
