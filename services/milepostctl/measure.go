package milepostctl

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"
)

// load is how much is asked, and how fast: requests in all, or for so long; so many at once, or so many a second.
type load struct {
	requests    int
	duration    time.Duration
	concurrency int
	rate        float64 // requests a second, begun on time however long earlier ones take; 0: as fast as they are answered
}

// measured is what came of a load.
type measured struct {
	total time.Duration   // from the first request's begin to the last one's end
	times []time.Duration // of each request, sorted
	count map[string]int  // of each status
}

// run asks until the load is done or ctx ends. ask returns what the request ended with, in a word or two; it is called
// from load.concurrency goroutines. With a rate, a request's time counts from when it should have begun, so that a
// server which holds all of them up is not measured by the few that it let through.
func (l load) run(ctx context.Context, ask func(ctx context.Context, n int) string, each func()) measured {
	if l.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.duration)
		defer cancel()
	}
	type turn struct {
		n   int
		due time.Time
	}
	turns := make(chan turn)
	start := time.Now()
	go func() {
		defer close(turns)
		for n := 0; l.requests == 0 || n < l.requests; n++ {
			due := time.Time{}
			if l.rate > 0 {
				due = start.Add(time.Duration(float64(n) / l.rate * float64(time.Second)))
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Until(due)):
				}
			}
			select {
			case <-ctx.Done():
				return
			case turns <- turn{n, due}:
			}
		}
	}()
	m := measured{count: map[string]int{}}
	var mu sync.Mutex
	var wg sync.WaitGroup
	live := context.WithoutCancel(ctx) // what has begun is answered
	for range l.concurrency {
		wg.Go(func() {
			for t := range turns {
				begin := t.due
				if begin.IsZero() {
					begin = time.Now()
				}
				status := ask(live, t.n)
				took := time.Since(begin)
				mu.Lock()
				m.times = append(m.times, took)
				m.count[status]++
				mu.Unlock()
				each()
			}
		})
	}
	wg.Wait()
	m.total = time.Since(start)
	slices.Sort(m.times)
	return m
}

// mean is the average time, 0 of none.
func mean(times []time.Duration) time.Duration {
	if len(times) == 0 {
		return 0
	}
	var sum time.Duration
	for _, t := range times {
		sum += t
	}
	return sum / time.Duration(len(times))
}

// percentile is the time that so many per cent of the sorted times do not exceed, 0 of none.
func percentile(sorted []time.Duration, percent float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	i := int(math.Ceil(percent/100*float64(len(sorted)))) - 1
	return sorted[max(0, min(i, len(sorted)-1))]
}

// latency is a distribution of times, in seconds, for JSON.
type latency struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	Max  float64 `json:"max"`
}

func latencyOf(sorted []time.Duration) latency {
	return latency{
		mean(sorted).Seconds(), percentile(sorted, 50).Seconds(), percentile(sorted, 90).Seconds(),
		percentile(sorted, 99).Seconds(), percentile(sorted, 100).Seconds(),
	}
}
