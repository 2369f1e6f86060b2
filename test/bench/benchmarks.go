//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
)

// Benchmark is what one Go benchmark reported.
type Benchmark struct {
	Package string             `json:"package"`
	Name    string             `json:"name"`
	Metrics map[string]float64 `json:"metrics"` // by unit
	units   []string           // in their order
}

// suites are the benchmarks of the repository that belong into the report: one hop against a bare client with the same
// commands, backlogs, replicas, publishing by several clients at once, and open progress streams.
var suites = []struct{ pkg, pattern, time string }{
	{"./pkg/stage", "^Benchmark(Hop|Backlog|Replicas)$", "1x"},
	{"./pkg/stage", "^BenchmarkPublish$", "2s"},
	{"./services/distance", "^BenchmarkHop$", "1x"},
	{"./services/web-api", "^BenchmarkStreams$", "1s"},
}

// Benchmarks runs the repository's Go benchmarks, which need the source and the go command. Source is its folder. A benchmark
// that fails does not keep the others from being run and returned.
func Benchmarks(ctx context.Context, source string, progress io.Writer) (all []Benchmark, failed error) {
	for _, s := range suites {
		if ctx.Err() != nil {
			return all, ctx.Err()
		}
		cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", s.pattern, "-benchtime", s.time, "-timeout", "30m", s.pkg)
		found, err := goTest(cmd, source, progress)
		all, failed = append(all, found...), errors.Join(failed, err)
	}
	return all, failed
}

func goTest(cmd *exec.Cmd, dir string, progress io.Writer) ([]Benchmark, error) {
	name := strings.Join(cmd.Args, " ")
	fmt.Fprintf(progress, "bench: %s\n", name)
	var said strings.Builder // not progress, which two goroutines would write to
	cmd.Dir, cmd.Stderr = dir, &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	found, other := parse(out, func(line string) { fmt.Fprintf(progress, "bench: %s\n", line) })
	err = cmd.Wait()
	if err == nil && len(found) == 0 {
		err = errors.New("no benchmark ran")
	}
	if err != nil {
		return found, fmt.Errorf("%s: %w\n%s", name, err, strings.TrimSpace(other+said.String()))
	}
	return found, nil
}

// parse reads what go test prints: benchmarks, each of which is told as it comes, and everything else.
func parse(r io.Reader, tell func(line string)) (found []Benchmark, other string) {
	pkg := ""
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if p, ok := strings.CutPrefix(line, "pkg: "); ok {
			pkg = strings.TrimPrefix(p, "github.com/milepost/milepost/")
		} else if b, err := parseLine(line); err == nil {
			b.Package = pkg
			found = append(found, b)
			tell(line)
		} else {
			other += line + "\n"
		}
	}
	return found, other
}

var errNoBenchmark = errors.New("not a benchmark's result")

// parseLine reads "BenchmarkHop/memory-2  1  141893 bare-events/s  0.81 ratio".
func parseLine(line string) (Benchmark, error) {
	f := strings.Fields(line)
	if len(f) < 4 || len(f)%2 != 0 || !strings.HasPrefix(f[0], "Benchmark") {
		return Benchmark{}, errNoBenchmark
	}
	b := Benchmark{Name: strings.TrimPrefix(f[0], "Benchmark"), Metrics: map[string]float64{}}
	if dash := strings.LastIndexByte(b.Name, '-'); dash > 0 { // GOMAXPROCS
		if _, err := strconv.Atoi(b.Name[dash+1:]); err == nil {
			b.Name = b.Name[:dash]
		}
	}
	for i := 2; i < len(f); i += 2 {
		value, err := strconv.ParseFloat(f[i], 64)
		if err != nil {
			return Benchmark{}, errNoBenchmark
		}
		b.Metrics[f[i+1]] = value
		b.units = append(b.units, f[i+1])
	}
	return b, nil
}

func (b Benchmark) String() string {
	parts := make([]string, len(b.units))
	for i, u := range b.units {
		parts[i] = strconv.FormatFloat(b.Metrics[u], 'g', 6, 64) + " " + u
	}
	return strings.Join(parts, ", ")
}
