//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// suites are the Go benchmarks of `make bench`: one hop against a bare client with the same
// commands, backlogs, replicas, publishing, progress streams, and cached answers against others.
var suites = []struct{ pkg, pattern, time string }{
	{"./pkg/stage", "^Benchmark(Hop|Backlog|Replicas|Copied)$", "1x"},
	{"./pkg/stage", "^BenchmarkPublish$", "2s"},
	{"./services/distance", "^BenchmarkHop$", "1x"},
	{"./services/web-api", "^BenchmarkStreams$", "1s"},
	{"./services/weather", "^BenchmarkAnswer$", "2s"},
	{"./services/users", "^BenchmarkAnswer$", "2s"},
}

// goBenchmarks runs the suites in the repository and returns their output, in the format that
// benchstat reads. A suite that fails does not stop the others.
func goBenchmarks(ctx context.Context, source string, stdout, progress io.Writer) (all []byte, failed error) {
	for _, s := range suites {
		if ctx.Err() != nil {
			return all, errors.Join(failed, ctx.Err())
		}
		args := []string{"test", "-run", "^$", "-bench", s.pattern, "-benchtime", s.time, "-timeout", "30m", s.pkg}
		fmt.Fprintf(progress, "bench: go %s\n", strings.Join(args, " "))
		var out bytes.Buffer
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = source, io.MultiWriter(stdout, &out), progress
		err := cmd.Run()
		if err == nil && !bytes.Contains(out.Bytes(), []byte("\nBenchmark")) {
			err = errors.New("no benchmark ran")
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("go %s: %w", strings.Join(args, " "), err))
		}
		all = append(all, out.Bytes()...)
	}
	return all, failed
}
