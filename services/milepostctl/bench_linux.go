package milepostctl

import (
	"cmp"
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/milepost/milepost/services/milepostctl/bench"
)

func (t *tool) bench() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the pipeline's programs on this machine",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(t.benchPipeline())
	return cmd
}

func (t *tool) benchPipeline() *cobra.Command {
	o := bench.Options{}
	var short bool
	cmd := &cobra.Command{
		Use:   "pipeline",
		Short: "From POST to log line, the edge alone, and a bare handler to compare it with",
		Long: `pipeline starts a redis-server of its own, web-api, distance, db and email as a process each, and a bare echo handler
that only makes one script call per request. It measures, in turns and with one client that costs little, how many
submissions a second the edge accepts while the stages are stopped, how many the bare handler, and how many go all the way
from POST to the log while at most --outstanding are under way; and what that costs: CPU time and memory of each process,
Redis commands and round trips. It ends with status 1 if a submission was lost or doubled.

MONGO_URL names the store, which gets the database milepost_bench. Without it the store of standalone is used, which is far
slower than what is measured. --redis is not used. The machine should have nothing else to do.`,
		Example: `  MONGO_URL=mongodb://127.0.0.1:27017 milepostctl bench pipeline
  milepostctl bench pipeline --fsync always --rounds 1 --sustain 10s --profile /tmp/profiles`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.Beside(os.Executable); err != nil {
				return err
			}
			if short {
				o.Short()
			}
			o.MongoURL = cmp.Or(o.MongoURL, t.Getenv("MONGO_URL"))
			o.Progress = t.Err
			r := bench.NewReport(o)
			var err error
			if r.Pipeline, err = bench.Pipeline(cmd.Context(), o); errors.Is(err, bench.ErrOptions) {
				return usage(err.Error())
			}
			if t.output == "json" {
				err = errors.Join(err, t.json(r))
			} else {
				err = errors.Join(err, r.Write(t.Out))
			}
			return errors.Join(err, r.Save(o.Out))
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Bin, "bin", "", "folder of the programs (default: where this program is)")
	f.StringVar(&o.RedisServer, "redis-server", "redis-server", "the program")
	f.StringVar(&o.BrokerConf, "broker-conf", "", "configuration of Redis (default: charts/milepost/files/broker.conf beside the folder of the programs)")
	f.StringVar(&o.MongoURL, "mongo", "", "URL of the store (default: MONGO_URL)")
	f.StringSliceVar(&o.Fsync, "fsync", []string{bench.InMemory, "always"}, "durabilities of Redis: off is memory without a log, else a value of appendfsync")
	f.StringSliceVar(&o.Env, "env", nil, "NAME=value for the four services; may be repeated")
	f.IntVar(&o.Rounds, "rounds", 3, "how often everything is measured; the table has the medians")
	f.DurationVar(&o.Warm, "warm", 2*time.Second, "work before each measurement that does not count")
	f.DurationVar(&o.Edge, "edge", 5*time.Second, "how long the edge is measured, and the bare handler")
	f.DurationVar(&o.Sustain, "sustain", 30*time.Second, "how long the whole pipeline is measured")
	f.IntVar(&o.Connections, "connections", 64, "connections of the client")
	f.IntVar(&o.Depth, "depth", 1, "requests under way on each connection")
	f.IntVar(&o.Outstanding, "outstanding", 2000, "submissions that may be without a line while the whole pipeline is measured")
	f.StringVar(&o.Profile, "profile", "", "a folder for CPU profiles of the services in the last round; profiling slows them")
	f.StringVar(&o.Out, "out", "", "a folder for report.json and the plots")
	f.BoolVar(&short, "short", false, "a couple of seconds of everything: shows that it works, measures nothing")
	return cmd
}
