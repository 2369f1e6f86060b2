//go:build linux

// Command bench measures Milepost on this machine, from POST to log line: the programs, as
// processes of their own over a redis-server of their own. It needs Linux, for /proc. See
// README.md.
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

// run measures and prints the report, also if a later setting failed.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	o, err := parse(args, getenv, stderr)
	if err != nil {
		return err
	}
	r := report{Machine: machine(o.redisServer)}
	var failed error
	if r.Pipeline, failed = measurePipeline(ctx, *o); len(r.Pipeline) == 0 {
		return failed
	}
	text, err := json.MarshalIndent(r, "", "  ")
	failed = errors.Join(failed, err, r.write(stdout))
	if o.out != "" {
		failed = errors.Join(failed, os.MkdirAll(o.out, 0o755), os.WriteFile(filepath.Join(o.out, "report.json"), append(text, '\n'), 0o644))
	}
	return failed
}
