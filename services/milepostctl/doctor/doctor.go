// Package doctor checks what the promises of a pipeline depend on: its Redis and the cache's,
// MongoDB, and what the stages report. It changes nothing.
//
// A check is a call of add: its name, why it matters, and an answer. The functions redis, cache,
// mongo and pipeline have those of their subject; values of redis.conf are a table, in settings.go.
package doctor

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

const (
	OK      = "ok"
	Warning = "warning" // works, but may not keep every promise
	Failed  = "fail"    // events can be lost, or do not move
	Unknown = "unknown" // the server did not say
)

type Finding struct {
	Check  string `json:"check"`
	State  string `json:"state"` // ok, warning, fail or unknown
	Found  string `json:"found"`
	Means  string `json:"means"`            // why it matters
	Change string `json:"change,omitempty"` // what to do if it is not ok
}

type Target struct {
	Redis    *redis.Options         // of the pipeline
	Failover *redis.FailoverOptions // nil without Sentinel
	Nodes    []string               // further ones of a cluster
	Cluster  bool                   // Redis is one
	Prefix   string                 // of its keys and channels
	Cache    config.CacheRedis
	Mongo    *config.Mongo // nil: not asked
	Pipeline *inspect.Pipeline
	Without  error         // why there is no Pipeline on this Redis Cluster
	Tuning   config.Tuning // as the services have it
	Shards   int           // as the services have it; 0: not compared
	Timeout  time.Duration // of each answer
}

// answer has the change that mends what was found. The change is left out if the state is OK.
type answer struct{ state, found, change string }

// untold is the answer to a question that Redis did not answer.
var untold = answer{Unknown, "not told", "Look at the server's configuration, or allow this user to read it: ACL SETUSER … +config|get +info."}

// judge is OK if what was found is good, else bad. It is untold if nothing was found.
func judge(found string, good bool, bad, change string) answer {
	switch {
	case found == "":
		return untold
	case good:
		return answer{OK, found, ""}
	}
	return answer{bad, found, change}
}

// nearness is a warning from one share of a limit on, and a failure from another.
func nearness(share float64, found string, warning, failed float64, change string) answer {
	state := Warning
	if share >= failed {
		state = Failed
	}
	return judge(found, share < warning, state, change)
}

type examination struct {
	Target
	findings []Finding
	asked    []*server
}

// add adds a check. means says why it matters.
func (x *examination) add(name, means string, a answer) {
	if a.state == OK {
		a.change = ""
	}
	x.findings = append(x.findings, Finding{name, a.state, a.found, means, a.change})
}

// Examine makes all checks. It fails if the pipeline's Redis does not answer; the findings are
// those of the others then. It blocks for a few timeouts at most.
func Examine(ctx context.Context, t Target) ([]Finding, error) {
	x := examination{Target: t}
	defer func() {
		for _, s := range x.asked {
			_ = s.rdb.Close() // nothing was written
		}
	}()
	s := x.server(ctx, x.Redis)
	for _, addr := range x.Nodes {
		if s.err != nil && x.Cluster {
			s = x.server(ctx, x.at(addr))
		}
	}
	x.redis(ctx, s)
	if s.err == nil || x.Cache.CacheRedisURL != "" {
		x.cache(ctx)
	}
	x.mongo(ctx)
	if s.err != nil {
		return x.findings, fmt.Errorf("%w: %w", stage.ErrUnavailable, s.err)
	}
	x.pipeline(ctx)
	return x.findings, nil
}

// quick checks how fast a server answers.
func (x *examination) quick(name string, ping func() error) {
	const means = "Each hop of an event takes a round trip or two, so slow answers slow everything."
	var took []time.Duration
	for range 20 {
		begin := time.Now()
		if err := ping(); err != nil {
			x.add(name, means, answer{Failed, err.Error(), "Find out why it stopped answering."})
			return
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	middle, slowest := took[len(took)/2], took[len(took)-1]
	x.add(name, means, judge(
		fmt.Sprintf("in %s, the slowest of %d in %s", middle.Round(time.Microsecond), len(took), slowest.Round(time.Microsecond)),
		middle <= 10*time.Millisecond && slowest <= 250*time.Millisecond, Warning,
		"Look at its CPU and disk, and at the network. SLOWLOG GET shows slow commands of Redis."))
}

// clock compares a server's clock with ours at the middle of the request.
func (x *examination) clock(name string, now func() (time.Time, error)) {
	begin := time.Now()
	theirs, err := now()
	took := time.Since(begin)
	off := theirs.Sub(begin.Add(took / 2)).Round(time.Millisecond)
	a := judge(fmt.Sprintf("%+d ms against this machine's", off.Milliseconds()), off.Abs() <= time.Second+took, Warning, "Run NTP on both machines.")
	switch {
	case err != nil || theirs.IsZero():
		a = answer{Unknown, "not told", ""}
	case off.Abs() > time.Minute:
		a.state = Failed
	}
	x.add(name, "Event IDs, due times and leases contain times. If clocks differ, ages and rates are wrong.", a)
}

// version is 7000 for "7.0.15" and 4004 for "4.4.29"; 0 if text is none.
func version(text string) int {
	var major, minor int
	_, _ = fmt.Sscanf(text, "%d.%d", &major, &minor)
	return 1000*major + minor
}

// size writes bytes; 0 is no limit.
func size(bytes float64) string {
	switch {
	case bytes == 0:
		return "no limit"
	case bytes < 1<<20:
		return fmt.Sprintf("%.0f kB", bytes/(1<<10))
	case bytes < 1<<30:
		return fmt.Sprintf("%.0f MB", bytes/(1<<20))
	}
	return fmt.Sprintf("%.1f GB", bytes/(1<<30))
}
