// Package doctor checks what the promises of a pipeline depend on: its Redis and the cache's,
// MongoDB, and what the stages report. Nothing is changed.
package doctor

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/config"
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

// Limits are those of the services, if the tool's environment has them too.
type Limits struct {
	MaxBacklog int `env:"MAX_BACKLOG" envDefault:"1000000" min:"1" help:"as the services have it"`
	MaxDead    int `env:"MAX_DEAD" envDefault:"100000" min:"1" help:"as the services have it"`
	WaitFor    int `env:"WAIT_REPLICAS" envDefault:"0" min:"0" help:"as web-api has it"`
	Shards     int `env:"SHARDS" envDefault:"0" min:"0" help:"as the services have it, on a Redis Cluster; 0: not compared"`
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
	Without  error // why there is no Pipeline on this Redis Cluster
	Limits   Limits
	Timeout  time.Duration // of each answer
}

type examination struct {
	Target
	all []Finding

	// Of a Redis Cluster, the least of all nodes, 0 if they do not say.
	nodeTimeout time.Duration
	bulk        int64 // bytes that a node takes as one argument
}

func (x *examination) add(check, state, found, means, change string) {
	if state == OK {
		change = ""
	}
	x.all = append(x.all, Finding{check, state, found, means, change})
}

// Examine makes all checks. It fails if the pipeline's Redis does not answer; the findings are
// those of the others then. It blocks for a few timeouts at most.
func Examine(ctx context.Context, t Target) ([]Finding, error) {
	x := examination{Target: t}
	away := x.broker(ctx)
	if away == nil || x.Cache.CacheRedisURL != "" {
		x.cache(ctx)
	}
	if t.Mongo != nil {
		x.store(ctx)
	} else {
		x.add("mongo", Unknown, "not asked", "The store keeps a document for each submission.", "Name it with --mongo or MONGO_URL to check it.")
	}
	if away == nil {
		x.pipeline(ctx)
	}
	return x.all, away
}
