package weather_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// measureFor is how long each rate is measured.
const measureFor = 2 * time.Second

// TestMeasure prints what `make bench` shows of weather. It checks only that everything was answered: how fast it is
// depends on the machine.
func TestMeasure(t *testing.T) {
	if os.Getenv("MEASURE") != "on" {
		t.Skip("measured by make bench")
	}
	p := provider(t)
	p.Delay(20 * time.Millisecond)
	o := stagetest.Real(t).Options()
	bases := make([]string, 3)
	for i := range bases {
		bases[i], _ = replica(t, o, o, p.URL)
	}
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 100, MaxIdleConnsPerHost: 100}}
	ask := func(address string) {
		r, err := client.Get(address)
		if err != nil {
			t.Error(err)
			return
		}
		defer r.Body.Close()
		if _, err := io.Copy(io.Discard, r.Body); err != nil || r.StatusCode != http.StatusOK {
			t.Errorf("GET %s = %d, %v", address, r.StatusCode, err)
		}
	}
	// Places a degree apart are in cells of their own, so that none is in the cache until it was asked for.
	var place atomic.Int64
	fresh := func() string {
		n := place.Add(1)
		return fmt.Sprintf("/api/weather?lat=%d.%02d&long=%d", n%160-80, n/57_600, n/160%360-180)
	}
	const requests = 18
	timed := func(concurrency int, do func(n int)) time.Duration {
		start := time.Now()
		var wg sync.WaitGroup
		var next atomic.Int64
		for range concurrency {
			wg.Go(func() {
				for n := next.Add(1) - 1; n < requests; n = next.Add(1) - 1 {
					do(int(n))
				}
			})
		}
		wg.Wait()
		return time.Since(start)
	}
	cities := []string{"moskva", "tokyo", "london"}
	for _, base := range bases { // connections are open, the cities are in the cache
		for _, city := range cities {
			ask(base + "/api/weather/" + city)
		}
	}
	fmt.Printf("\nweather, %d requests, a provider that takes 20 ms       total time   mean time for 1 request\n", requests)
	for _, row := range []struct {
		name string
		took time.Duration
	}{
		{"one worker: one request after the other", timed(1, func(int) { ask(bases[0] + fresh()) })},
		{"three replicas: each one after the other", timed(3, func(n int) { ask(bases[n%3] + fresh()) })},
		{"concurrent: all at once, one replica", timed(requests, func(int) { ask(bases[0] + fresh()) })},
		{"cached: one after the other", timed(1, func(n int) { ask(bases[0] + "/api/weather/" + cities[n%3]) })},
	} {
		fmt.Printf("  %-48s %12.4f s %12.5f s\n", row.name, row.took.Seconds(), row.took.Seconds()/requests)
	}

	rate := func(do func()) float64 {
		ctx, cancel := context.WithTimeout(t.Context(), measureFor)
		defer cancel()
		var done atomic.Int64
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				for ctx.Err() == nil {
					do()
					done.Add(1)
				}
			})
		}
		wg.Wait()
		return float64(done.Load()) / measureFor.Seconds()
	}
	rdb := redis.NewClient(o)
	defer rdb.Close()
	body := []byte(`{"city":"Moscow","temperature":2.5,"source":"cache","at":"2026-01-02T03:04:05Z"}`)
	if err := rdb.Set(t.Context(), "plain", body, 0).Err(); err != nil {
		t.Fatal(err)
	}
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := rdb.Get(r.Context(), "plain").Bytes()
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(text)
	}))
	defer plain.Close()
	uncached := rate(func() { ask(bases[0] + fresh()) })
	cached := rate(func() { ask(bases[0] + "/api/weather/moskva") })
	one := rate(func() { ask(plain.URL) })
	fmt.Printf("\nweather, 50 requests at a time                           requests a second\n"+
		"  not in the cache, a provider that takes 20 ms        %12.0f\n"+
		"  cached                                               %12.0f    %.0f times that; wanted: 20\n"+
		"  a server that does one Redis GET a request           %12.0f    cached is %.0f %% of it; wanted: 75\n",
		uncached, cached, cached/uncached, one, 100*cached/one)
}
