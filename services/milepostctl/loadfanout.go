package milepostctl

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/milepost/milepost/pkg/fanout"
)

func (t *tool) loadFanout() *cobra.Command {
	var delays []float64
	var at []int
	var work time.Duration
	cmd := &cobra.Command{
		Use:   "fanout",
		Short: "Show what asking several services at once saves",
		Long: `fanout starts a server of its own that answers after a delay, and asks it with the function that web-api asks other
services with: the calls one after the other, the calls at once, and, with --work, the calls at once while something else is
done. Then -n requests at the same time, each of which makes all the calls.`,
		Example: `  milepostctl load fanout --calls 0.125,0.25,0.375,0.5 --work 1s -n 20,50,100,200`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(delays) == 0 {
				return usage("--calls: name at least one delay")
			}
			for _, d := range delays {
				if !(d >= 0 && d <= 10) {
					return usage(fmt.Sprintf("--calls: %v is not from 0 to 10 seconds", d))
				}
			}
			for _, n := range at {
				if n < 1 || n > 10_000 {
					return usage(fmt.Sprintf("--requests: %d is not from 1 to 10000", n))
				}
			}
			f, err := newFan(cmd.Context(), delays, at)
			if err != nil {
				return err
			}
			defer f.close()
			rows, err := f.measure(cmd.Context(), work, at)
			if err != nil {
				return err
			}
			if t.output == "json" {
				for _, r := range rows {
					if err := t.json(r); err != nil {
						return err
					}
				}
				return nil
			}
			var cells [][]string
			for _, r := range rows {
				cells = append(cells, []string{strconv.Itoa(r.Requests), r.How, fmt.Sprintf("%.3f s", r.Seconds)})
			}
			return table(t.Out, []string{"REQUESTS", "CALLS", "TIME"}, cells)
		},
	}
	f := cmd.Flags()
	f.Float64SliceVar(&delays, "calls", []float64{0.125, 0.25, 0.375, 0.5}, "how long the called services take, in seconds")
	f.IntSliceVarP(&at, "requests", "n", []int{20, 50, 100, 200}, "how many requests at the same time, one measurement each")
	f.DurationVar(&work, "work", 0, "other work that is done meanwhile, such as 1s")
	return cmd
}

// fanned is one measurement.
type fanned struct {
	Requests int     `json:"requests"`
	How      string  `json:"calls"`
	Seconds  float64 `json:"seconds"`
}

// fan is a server that answers late, and who asks it.
type fan struct {
	delays []float64
	usual  int // percent of the heap to allocate between collections
	server *delayServer
	client *http.Client
}

func newFan(ctx context.Context, delays []float64, at []int) (*fan, error) {
	server, err := startDelayServer(ctx)
	if err != nil {
		return nil, err
	}
	most := 1
	for _, n := range at {
		most = max(most, n)
	}
	return &fan{
		delays: delays, server: server, client: newClient(most*len(delays), 0), // each call has its own deadline
		usual: debug.SetGCPercent(1000), // and a collection before each measurement: one within it would be measured, too
	}, nil
}

func (f *fan) close() {
	debug.SetGCPercent(f.usual)
	f.client.CloseIdleConnections()
	f.server.close()
}

// ask makes all calls of one request, limit at a time.
func (f *fan) ask(ctx context.Context, limit int) error { return f.askFor(ctx, limit, f.delays) }

// together makes n requests at the same time.
func (f *fan) together(ctx context.Context, n int, delays []float64) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f.askFor(ctx, 0, delays) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (f *fan) askFor(ctx context.Context, limit int, delays []float64) error {
	delays = slices.Sorted(slices.Values(delays))
	slices.Reverse(delays) // the slowest first, as Do likes it
	calls := make([]fanout.Call[struct{}], len(delays))
	for i, d := range delays {
		calls[i] = fanout.Call[struct{}]{Name: fmt.Sprint(d), Timeout: time.Minute, Do: func(ctx context.Context) (struct{}, error) {
			_, status := send(ctx, f.client, http.MethodGet, fmt.Sprintf("%s?seconds=%v", f.server.url, d), nil, "")
			if status != "200" {
				return struct{}{}, errors.New(status)
			}
			return struct{}{}, nil
		}}
	}
	for _, a := range fanout.Do(ctx, limit, calls...) {
		if a.Err != nil {
			return fmt.Errorf("call of %s s: %w", a.Name, a.Err)
		}
	}
	return nil
}

func (f *fan) measure(ctx context.Context, work time.Duration, at []int) ([]fanned, error) {
	// Connections are open before anything is measured, as those of a service at work are.
	warm := make([]float64, len(f.delays))
	for i := range warm {
		warm[i] = 0.1
	}
	if err := f.together(ctx, slices.Max(append([]int{1}, at...)), warm); err != nil {
		return nil, err
	}
	var rows []fanned
	timed := func(n int, how string, do func() error) error {
		runtime.GC()
		start := time.Now()
		err := do()
		rows = append(rows, fanned{n, how, time.Since(start).Seconds()})
		return err
	}
	err := timed(1, "one after the other", func() error { return f.ask(ctx, 1) })
	if err == nil {
		err = timed(1, "at once", func() error { return f.ask(ctx, 0) })
	}
	if err == nil && work > 0 {
		err = timed(1, fmt.Sprintf("at once, beside %s of other work", work), func() error {
			asked := make(chan error, 1)
			go func() { asked <- f.ask(ctx, 0) }()
			select {
			case <-ctx.Done():
			case <-time.After(work):
			}
			return <-asked
		})
	}
	for _, n := range at {
		if err != nil {
			break
		}
		err = timed(n, "at once", func() error { return f.together(ctx, n, f.delays) })
	}
	return rows, err
}
