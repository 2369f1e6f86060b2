package users_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// TestMeasure prints what `make bench` shows of users. It checks only that everything was answered: how fast it is
// depends on the machine.
func TestMeasure(t *testing.T) {
	if os.Getenv("MEASURE") != "on" {
		t.Skip("measured by make bench")
	}
	var s store
	s.add("ada@example.com", 20)
	connections := make(chan struct{}, 10)
	query := func() {
		connections <- struct{}{}
		time.Sleep(2 * time.Millisecond)
		<-connections
	}
	s.do(func(context.Context) error { query(); return nil })
	profile := &late{store: &s, then: func() { // it has three queries, one after the other here
		query()
		query()
	}}
	o := stagetest.Real(t).Options()
	base, _ := serve(t, o, o, profile, "")
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 10, MaxIdleConnsPerHost: 10}}
	rate := func(path string) float64 {
		const measureFor = 2 * time.Second
		ctx, cancel := context.WithTimeout(t.Context(), measureFor)
		defer cancel()
		var done atomic.Int64
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				for ctx.Err() == nil {
					r, err := client.Get(base + path)
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := io.Copy(io.Discard, r.Body); err != nil || r.StatusCode != http.StatusOK {
						t.Errorf("GET %s = %d, %v", path, r.StatusCode, err)
					}
					r.Body.Close()
					done.Add(1)
				}
			})
		}
		wg.Wait()
		return float64(done.Load()) / measureFor.Seconds()
	}
	cached := rate(ada)
	uncached := rate(ada + "?limit=19") // other lengths than the usual are not cached
	fmt.Printf("\nGET /users/{email}, 10 requests at a time                requests a second\n"+
		"  not in the cache, 10 connections, 2 ms a query       %12.0f\n"+
		"  cached                                               %12.0f    %.1f times that; wanted: 5\n", uncached, cached, cached/uncached)
}
