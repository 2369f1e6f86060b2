//go:build linux

// Command bench measures Milepost on this machine: the programs, as processes of their own over a
// redis-server of their own, and the Go benchmarks. It needs Linux, for /proc. See README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the first signal stops the programs, a second one kills
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	if errors.Is(err, errOptions) {
		os.Exit(2)
	}
	os.Exit(1)
}

// run measures and prints the report. A part that fails is reported after the others have run.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	o, err := parse(args, getenv, stderr)
	if err != nil {
		return err
	}
	var failed error
	if slices.Contains(o.parts, "pipeline") {
		r := report{Machine: machine(o.redisServer)}
		r.Pipeline, failed = measurePipeline(ctx, *o)
		if len(r.Pipeline) > 0 {
			text, err := json.MarshalIndent(r, "", "  ")
			failed = errors.Join(failed, err, r.write(stdout), o.save("report.json", append(text, '\n')))
		}
	}
	if slices.Contains(o.parts, "runtime") && ctx.Err() == nil {
		text, err := goBenchmarks(ctx, o.source, stdout, stderr)
		failed = errors.Join(failed, err, o.save("go.txt", text))
	}
	return failed
}

// save writes a file of the report, if the report goes into a folder.
func (o *options) save(name string, text []byte) error {
	if o.out == "" {
		return nil
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.out, name), text, 0o644)
}
