package records

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// pool limits a store's connections and counts them.
type pool struct {
	max     uint64
	open    atomic.Int64
	used    atomic.Int64
	waiting atomic.Int64
	wait    prometheus.Histogram
	failed  prometheus.Counter
}

func newPool(size int) *pool {
	return &pool{
		max: uint64(size),
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "milepost_mongo_pool_wait_seconds", Help: "Time until a call got a connection.", Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9),
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "milepost_mongo_pool_failed_total", Help: "Calls that got no connection.",
		}),
	}
}

// limit sets the limit in o, or reads it from there.
func (p *pool) limit(o *options.ClientOptions) {
	switch {
	case p.max > 0:
		o.SetMaxPoolSize(p.max)
	case o.MaxPoolSize != nil:
		p.max = *o.MaxPoolSize
	default:
		p.max = 100
		o.SetMaxPoolSize(p.max)
	}
}

func (p *pool) monitor() *event.PoolMonitor {
	return &event.PoolMonitor{Event: func(e *event.PoolEvent) {
		switch e.Type {
		case event.ConnectionCreated:
			p.open.Add(1)
		case event.ConnectionClosed:
			p.open.Add(-1)
		case event.ConnectionCheckOutStarted:
			p.waiting.Add(1)
		case event.ConnectionCheckOutFailed:
			p.waiting.Add(-1)
			p.failed.Inc()
		case event.ConnectionCheckedOut:
			p.waiting.Add(-1)
			p.used.Add(1)
			p.wait.Observe(e.Duration.Seconds())
		case event.ConnectionCheckedIn:
			p.used.Add(-1)
		}
	}}
}

var poolDesc = prometheus.NewDesc("milepost_mongo_pool_connections",
	"Connections to the store: open, used (by a call under way), waiting (calls that have none yet), max (that may be open).", []string{"state"}, nil)

func (p *pool) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(p, ch) }

func (p *pool) Collect(ch chan<- prometheus.Metric) {
	for state, n := range map[string]int64{"open": p.open.Load(), "used": p.used.Load(), "waiting": p.waiting.Load(), "max": int64(p.max)} {
		ch <- prometheus.MustNewConstMetric(poolDesc, prometheus.GaugeValue, float64(n), state)
	}
	p.wait.Collect(ch)
	p.failed.Collect(ch)
}
