//go:build linux

// Command bench measures Milepost on this machine. See README.md.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the first signal stops the programs, a second one kills
	switch err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr); {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errOptions):
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

const usage = `usage: bench [flags] [pipeline] [runtime]

pipeline measures the programs, from POST to log line. runtime runs the Go benchmarks, which need
the source and the go command. Without an argument both are measured.

`

// run measures, prints the report and saves it. A part that fails is reported after the others.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	o, parts, out := Options{Progress: stderr}, []string{}, ""
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() { fmt.Fprint(stderr, usage); f.PrintDefaults() }
	fsync := f.String("fsync", InMemory+",always", "durabilities of Redis: off keeps no log, else a value of appendfsync")
	short := f.Bool("short", false, "measure everything as briefly as possible: shows that it works")
	f.StringVar(&out, "out", "", "folder for report.json (default: not written)")
	f.StringVar(&o.Source, "source", ".", "folder of the repository")
	f.StringVar(&o.Bin, "bin", "", "folder of the programs (default: the folder of this program)")
	f.StringVar(&o.RedisServer, "redis-server", "redis-server", "the redis-server program")
	f.StringVar(&o.BrokerConf, "broker-conf", "", "Redis configuration (default: charts/milepost/files/broker.conf of the repository)")
	f.StringVar(&o.MongoURL, "mongo", getenv("MONGO_URL"), "`URL` of the store (default: MONGO_URL)")
	f.Func("env", "`NAME=value` for the four services; may be repeated", func(v string) error { o.Env = append(o.Env, v); return nil })
	f.IntVar(&o.Rounds, "rounds", 3, "how often everything is measured; the table shows medians")
	f.DurationVar(&o.Warm, "warm", 2*time.Second, "warm-up before each measurement")
	f.DurationVar(&o.Edge, "edge", 5*time.Second, "how long the edge, the bare handler and the idle pipeline are measured")
	f.DurationVar(&o.Light, "light", 10*time.Second, "how long the whole pipeline is measured at 100 submissions a second")
	f.DurationVar(&o.Sustain, "sustain", 30*time.Second, "how long the whole pipeline is measured at full speed")
	f.IntVar(&o.Connections, "connections", 128, "connections of the client, one request at a time each")
	f.IntVar(&o.Outstanding, "outstanding", 2000, "most submissions without a log line at full speed")
	f.StringVar(&o.Profile, "profile", "", "folder for CPU profiles of the services in the last round; profiling slows them")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("%w: %w", errOptions, err)
	}
	o.Fsync = strings.Split(*fsync, ",")
	if *short {
		o.Short()
	}
	for _, part := range f.Args() {
		if part != "pipeline" && part != "runtime" {
			return fmt.Errorf("%w: %q is not one of pipeline, runtime", errOptions, part)
		}
	}
	if parts = f.Args(); len(parts) == 0 {
		parts = []string{"pipeline", "runtime"}
	}
	return measureAll(ctx, o, parts, out, stdout)
}

func measureAll(ctx context.Context, o Options, parts []string, out string, stdout io.Writer) (failed error) {
	r := NewReport(o)
	if slices.Contains(parts, "pipeline") {
		if failed = o.Beside(os.Executable); failed == nil {
			r.Pipeline, failed = Pipeline(ctx, o)
		}
	}
	if slices.Contains(parts, "runtime") && ctx.Err() == nil && !errors.Is(failed, errOptions) {
		var err error
		r.Benchmarks, err = Benchmarks(ctx, o.Source, o.Progress)
		failed = errors.Join(failed, err)
	}
	if len(r.Pipeline)+len(r.Benchmarks) == 0 {
		return cmp.Or(failed, ctx.Err())
	}
	err := r.Write(stdout)
	if err == nil && out != "" {
		err = r.Save(out)
	}
	return errors.Join(failed, err)
}
