package users_test

import (
	"context"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// BenchmarkAnswer compares answers from the cache with answers from a store that has 10
// connections and takes 2 ms a query. Wanted: 5 times as many a second.
func BenchmarkAnswer(b *testing.B) {
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
	o := stagetest.Real(b).Options()
	service := serve(b, o, o, profile, "")
	for name, path := range map[string]string{"cached": ada, "loaded": ada + "?limit=19"} { // other lengths than the usual are not cached
		b.Run(name, func(b *testing.B) { service.BenchmarkGet(b, 5, func() string { return path }) }) // 10 requests at a time on two processors
	}
}
