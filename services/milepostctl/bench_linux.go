package milepostctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/milepost/milepost/services/milepostctl/bench"
)

func (t *tool) bench() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the pipeline's programs and the runtime on this machine",
		Long: `bench measures and prints a table, and writes the figures as report.json and the most telling ones as report.svg into
a folder, which it names at the end. The machine should have nothing else to do; what others did is in the table, too.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(t.benchPipeline(), t.benchRuntime(), t.benchAll())
	return cmd
}

func (t *tool) benchPipeline() *cobra.Command {
	b := benching{tool: t}
	cmd := &cobra.Command{
		Use:   "pipeline",
		Short: "From POST to log line, the edge alone, and a bare handler to compare it with",
		Long: `pipeline starts a redis-server of its own, web-api, distance, db and email as a process each, and a bare echo handler
that only makes one script call per request. It measures, in turns and with the same client, vegeta, how many
submissions a second the edge accepts while the stages are stopped, how many the bare handler, how fast the stages work off
what the edge left, and how many submissions go all the way from POST to the log while at most --outstanding are under way;
and what that costs: time, CPU time and memory of each process, Redis commands and round trips. It ends with status 1 if a
submission was lost or doubled.

MONGO_URL names the store: its database milepost_bench is dropped before each round and at the end. Without it the store of
standalone is used, which is far slower than what is measured. --redis is not used.`,
		Example: `  milepostctl bench pipeline --mongo mongodb://127.0.0.1:27017
  milepostctl bench pipeline --fsync always --rounds 1 --sustain 10s --profile /tmp/profiles`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return b.run(cmd.Context(), b.pipeline) },
	}
	b.pipelineFlags(cmd)
	return cmd
}

func (t *tool) benchRuntime() *cobra.Command {
	b := benching{tool: t}
	cmd := &cobra.Command{
		Use:   "runtime",
		Short: "One hop against a bare client, backlogs, replicas, publishing: the Go benchmarks",
		Long: `runtime runs the repository's Go benchmarks, for which it needs the source and the go command: one hop against a bare
pipelined client that issues the same commands, backlogs of 1,000 to 1,000,000, 1, 2 and 4 replicas of a stage, publishing by
1, 16 and 256 at once, and 1,000 open progress streams.`,
		Example: `  milepostctl bench runtime --source .`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return b.run(cmd.Context(), b.runtime) },
	}
	b.runtimeFlags(cmd)
	return cmd
}

func (t *tool) benchAll() *cobra.Command {
	b := benching{tool: t}
	cmd := &cobra.Command{
		Use:     "all",
		Short:   "Both, in one report: what `make bench` runs",
		Long:    `all does what bench runtime and bench pipeline do and writes one report; it takes a quarter of an hour.`,
		Example: `  milepostctl bench all --mongo mongodb://127.0.0.1:27017 --out dist/bench`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return b.run(cmd.Context(), b.runtime, b.pipeline) },
	}
	b.pipelineFlags(cmd)
	b.runtimeFlags(cmd)
	return cmd
}

// benching is one run of bench.
type benching struct {
	*tool
	o      bench.Options
	short  bool
	source string
	out    string
}

// run measures the parts, prints the report and saves it. What fails is told after what was measured.
func (b *benching) run(ctx context.Context, parts ...func(context.Context, *bench.Report) error) error {
	r := bench.NewReport(b.o)
	var failed error
	for _, part := range parts {
		if failed = errors.Join(failed, part(ctx, &r)); ctx.Err() != nil || errors.Is(failed, errUsage) {
			return failed
		}
	}
	if len(r.Pipeline)+len(r.Benchmarks) == 0 {
		return failed
	}
	write := r.Write
	if b.output == "json" {
		write = func(io.Writer) error { return b.json(r) }
	}
	if err := write(b.Out); err != nil {
		return errors.Join(failed, err)
	}
	dir, err := r.Save(b.out)
	if err == nil {
		fmt.Fprintf(b.Err, "report.json and report.svg are in %s\n", dir)
	}
	return errors.Join(failed, err)
}

func (b *benching) pipeline(ctx context.Context, r *bench.Report) (err error) {
	if err := b.o.Beside(os.Executable); err != nil {
		return err
	}
	if b.short {
		b.o.Short()
	}
	b.o.MongoURL = cmp.Or(b.o.MongoURL, b.Getenv("MONGO_URL"))
	b.o.Progress = b.Err
	if r.Pipeline, err = bench.Pipeline(ctx, b.o); errors.Is(err, bench.ErrOptions) {
		return usage(err.Error())
	}
	return err
}

func (b *benching) runtime(ctx context.Context, r *bench.Report) (err error) {
	r.Benchmarks, err = bench.Benchmarks(ctx, b.source, b.Err)
	return err
}

func (b *benching) runtimeFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&b.source, "source", ".", "folder of the repository")
	b.outFlag(cmd)
}

func (b *benching) outFlag(cmd *cobra.Command) {
	if cmd.Flags().Lookup("out") == nil {
		cmd.Flags().StringVar(&b.out, "out", "", "folder for report.json and report.svg (default: a new one)")
	}
}

func (b *benching) pipelineFlags(cmd *cobra.Command) {
	o := &b.o
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
	f.DurationVar(&o.Light, "light", 10*time.Second, "how long the whole pipeline is measured at 100 submissions a second")
	f.DurationVar(&o.Sustain, "sustain", 30*time.Second, "how long the whole pipeline is measured")
	f.IntVar(&o.Connections, "connections", 128, "connections of the client, each with one request under way")
	f.IntVar(&o.Outstanding, "outstanding", 2000, "submissions that may be without a line while the whole pipeline is measured")
	f.StringVar(&o.Profile, "profile", "", "a folder for CPU profiles of the services in the last round; profiling slows them")
	f.BoolVar(&b.short, "short", false, "a couple of seconds of everything: shows that it works, measures nothing")
	b.outFlag(cmd)
}
