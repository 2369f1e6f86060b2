package cache_test

import (
	"context"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/cache"
)

func Example() {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	defer server.Close()
	client := cache.Open(&redis.Options{Addr: server.Addr()}, "", nil)
	defer client.Close()
	temperatures := cache.New[float64](client, cache.Options{Name: "example", TTL: time.Hour})
	for range 2 {
		r, err := temperatures.Get(context.Background(), "paris", func(context.Context) (float64, error) {
			fmt.Println("asking the provider")
			return 12.5, nil
		})
		fmt.Println(r.Value, r.Cached, err)
	}
	// Output:
	// asking the provider
	// 12.5 false <nil>
	// 12.5 true <nil>
}
