package stage

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	memoryFresh    = 10 * time.Second
	memoryPatience = time.Second // that a scrape has with a Redis that does not answer
)

var (
	memoryUsed = prometheus.NewDesc("stage_redis_memory_used_bytes", "Memory that the broker's Redis uses.", nil, nil)
	memoryMax  = prometheus.NewDesc("stage_redis_memory_max_bytes", "Its maxmemory, over which it refuses to publish; none if it has no limit.", nil, nil)
)

// memory is how full Redis is, as INFO says. Only a scrape asks, and not again within memoryFresh.
type memory struct {
	mu          sync.Mutex
	asked       time.Time
	used, limit float64 // bytes; 0: not known, no limit
}

// fullness returns the bytes that Redis uses and its limit. Both are 0 if it is away or does not tell, and limit also if
// there is none. It blocks for memoryPatience at most.
func (b *Broker) fullness() (used, limit float64) {
	m := &b.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.asked.IsZero() && time.Since(m.asked) < memoryFresh {
		return m.used, m.limit
	}
	ctx, cancel := context.WithTimeout(context.Background(), memoryPatience)
	defer cancel()
	// The link learns nothing from this: a Redis that loads or is full answers INFO, and an embedded one does not.
	info, _ := b.link.Client.Info(ctx, "memory").Result()
	m.used, m.limit = 0, 0
	for line := range strings.Lines(info) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), ":"); name {
		case "used_memory":
			m.used, _ = strconv.ParseFloat(value, 64)
		case "maxmemory":
			m.limit, _ = strconv.ParseFloat(value, 64)
		}
	}
	m.asked = time.Now()
	return m.used, m.limit
}

func (b *Broker) collectMemory(ch chan<- prometheus.Metric) {
	used, limit := b.fullness()
	if used > 0 {
		ch <- prometheus.MustNewConstMetric(memoryUsed, prometheus.GaugeValue, used)
	}
	if limit > 0 {
		ch <- prometheus.MustNewConstMetric(memoryMax, prometheus.GaugeValue, limit)
	}
}
