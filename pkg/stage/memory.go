package stage

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

var (
	memoryUsed = prometheus.NewDesc("stage_redis_memory_used_bytes", "Memory that the broker's Redis uses; in a Redis Cluster, each master.", []string{"node"}, nil)
	memoryMax  = prometheus.NewDesc("stage_redis_memory_max_bytes", "Its maxmemory, over which it refuses to publish; absent if it has no limit.", []string{"node"}, nil)
)

// memoryPatience bounds what a scrape waits for a Redis that does not answer.
const memoryPatience = time.Second

// collectMemory asks Redis how full it is, so that an alert can warn before it refuses to publish.
// A Redis that is away, or embedded, does not tell. Each scrape asks: INFO memory takes Redis 4 µs.
func (b *Broker) collectMemory(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), memoryPatience)
	defer cancel()
	c := b.cluster.Load()
	if c == nil {
		memoryOf(ctx, b.redis, "", ch)
		return
	}
	var all sync.WaitGroup
	for _, n := range c.masters() {
		all.Go(func() { memoryOf(ctx, n.ticks, n.addr, ch) })
	}
	all.Wait()
}

func memoryOf(ctx context.Context, rdb *redis.Client, node string, ch chan<- prometheus.Metric) {
	// Not link.Check: a Redis that is loading or full answers INFO, and an embedded one does
	// not.
	info, _ := rdb.Info(ctx, "memory").Result()
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		bytes, err := strconv.ParseFloat(value, 64)
		if err != nil || bytes == 0 { // maxmemory 0 is no limit
			continue
		}
		switch name {
		case "used_memory":
			ch <- prometheus.MustNewConstMetric(memoryUsed, prometheus.GaugeValue, bytes, node)
		case "maxmemory":
			ch <- prometheus.MustNewConstMetric(memoryMax, prometheus.GaugeValue, bytes, node)
		}
	}
}
