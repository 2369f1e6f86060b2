package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// RedisPool registers the metrics of a client's connections. name is their label client: "pipeline"
// or "cache". stats returns the pool's statistics and its size, for each scrape.
func (a *Admin) RedisPool(name string, stats func() (*redis.PoolStats, int)) {
	a.registry.MustRegister(&redisPool{name, stats})
}

type redisPool struct {
	name  string
	stats func() (*redis.PoolStats, int)
}

// desc has the client as a constant label, so that one registry accepts several clients.
func (p *redisPool) desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("milepost_redis_pool_"+name, help, labels, prometheus.Labels{"client": p.name})
}

func (p *redisPool) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(p, ch) }

func (p *redisPool) Collect(ch chan<- prometheus.Metric) {
	s, most := p.stats()
	connections := p.desc("connections", "Connections to Redis: open, idle (open and unused), max (that may be open).", "state")
	for state, n := range map[string]int{"open": int(s.TotalConns), "idle": int(s.IdleConns), "max": most} {
		ch <- prometheus.MustNewConstMetric(connections, prometheus.GaugeValue, float64(n), state)
	}
	counter := func(name, help string, n float64) {
		ch <- prometheus.MustNewConstMetric(p.desc(name, help), prometheus.CounterValue, n)
	}
	counter("hits_total", "Calls that found an idle connection.", float64(s.Hits))
	counter("misses_total", "Calls that found no idle connection and opened one.", float64(s.Misses))
	counter("waits_total", "Calls that waited because all connections were in use.", float64(s.WaitCount))
	counter("wait_seconds_total", "Time that calls waited for a connection.", float64(s.WaitDurationNs)/1e9)
	counter("timeouts_total", "Calls that got no connection in time.", float64(s.Timeouts))
	counter("stale_total", "Connections closed because they were too old or broken.", float64(s.StaleConns))
}
