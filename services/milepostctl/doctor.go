package milepostctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/milepost/milepost/pkg/operate"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/services/milepostctl/doctor"
)

func (t *tool) doctor() *cobra.Command {
	var explain bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check Redis, the store and the pipeline, and say what to change",
		Long: `doctor checks what the promises depend on. Of Redis: credentials and TLS, the rights of this user,
version, persistence, memory and eviction, output buffers, clock and response times, and keys of other
programs; of a Redis Cluster, the slots, SHARDS, the largest stream, and the settings of all nodes. A
user with the name of a program needs no more than that program. Of the cache's Redis
(CACHE_REDIS_URL): rights and eviction. Of MongoDB (--mongo, MONGO_URL or MONGO_HOST): version, index,
clock and response times. Of the pipeline: what status
says is wrong, dead letters near MAX_DEAD, and backlogs near MAX_BACKLOG. Set MAX_DEAD, MAX_BACKLOG and
WAIT_REPLICAS as the services have them.

Users, passwords and PEM files are in REDIS_USERNAME, REDIS_PASSWORD, REDIS_TLS_CA, REDIS_TLS_CERT and
REDIS_TLS_KEY; in MONGO_USERNAME, MONGO_PASSWORD, MONGO_TLS_CA, MONGO_TLS_CERT and MONGO_TLS_KEY; for the
cache in CACHE_REDIS_USERNAME, CACHE_REDIS_PASSWORD and so on.

Each finding says what it means and what to change. What Redis does not tell is "unknown". The exit
status is 5 if a check failed; warnings alone end with 0.`,
		Example: `  milepostctl doctor
  milepostctl doctor --explain
  milepostctl doctor --mongo mongodb://127.0.0.1:27017/ --output json | jq 'select(.state != "ok")'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			target := doctor.Target{Redis: t.options, Failover: t.env.Failover(), Nodes: t.env.Nodes(), Prefix: t.prefix, Timeout: t.timeout}
			store, err := t.store()
			if err = errors.Join(err, t.settings(&target.Tuning), t.settings(&target.Cache)); err != nil {
				return err
			}
			target.Mongo = store
			if t.getenv("SHARDS") != "" {
				target.Shards = t.env.Shards
			}
			examine := func(ctx context.Context) error {
				findings, away := doctor.Examine(ctx, target)
				err := t.examined(findings, explain)
				return cmp.Or(away, err)
			}
			err = t.open(cmd.Context(), func(ctx context.Context, p pipeline) error {
				target.Pipeline, target.Cluster = p.Pipeline, p.cluster
				return examine(ctx)
			})
			if target.Pipeline == nil && errors.Is(err, stage.ErrCluster) {
				target.Without, target.Cluster = err, true
				return examine(cmd.Context())
			}
			return err
		},
	}
	t.mongoFlag(cmd)
	cmd.Flags().BoolVar(&explain, "explain", false, "explain every finding, not only those that are not ok")
	return cmd
}

func (t *tool) examined(findings []doctor.Finding, explain bool) error {
	l, failures := listing{tool: t}, 0
	var text strings.Builder
	for _, f := range findings {
		if f.State == doctor.Failed {
			failures++
		}
		l.add(f, f.State, f.Check, printable(f.Found))
		if f.State != doctor.OK || explain {
			fmt.Fprintf(&text, "\n%s: %s: %s\n  %s\n", f.State, f.Check, printable(f.Found), f.Means)
		}
		if f.Change != "" {
			fmt.Fprintf(&text, "  To do: %s\n", f.Change)
		}
	}
	err := l.end("", "STATE", "CHECK", "FOUND")
	if err == nil && t.output != "json" {
		_, err = io.WriteString(t.Out, text.String())
	}
	if err == nil && failures > 0 {
		err = problems(operate.Plural(failures, "failed check", "failed checks"))
	}
	return err
}
