package cache

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of one cache.
type metrics struct {
	requests *prometheus.CounterVec
	loads    *prometheus.CounterVec
	kept     *prometheus.CounterVec
	seconds  prometheus.Histogram
}

func newMetrics(name string) *metrics {
	labels := prometheus.Labels{"cache": name}
	return &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "milepost_cache_requests_total", ConstLabels: labels,
			Help: "What was found in the cache: hit, missing (known not to exist), stale (served late, after expired), miss, expired, corrupt, away (Redis is).",
		}, []string{"outcome"}),
		loads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "milepost_cache_loads_total", ConstLabels: labels, Help: "Loads of what was not in the cache, by outcome.",
		}, []string{"outcome"}),
		kept: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "milepost_cache_kept_total", ConstLabels: labels,
			Help: "What became of loaded values: kept, outdated (dropped while they were loaded), failed (Redis did not take them).",
		}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "milepost_cache_load_seconds", ConstLabels: labels, Help: "Time of a load.",
			Buckets: prometheus.ExponentialBuckets(0.001, 3, 9),
		}),
	}
}

func (m *metrics) asked(outcome string) { m.requests.WithLabelValues(outcome).Inc() }

func (m *metrics) loaded(start time.Time, err error) {
	m.seconds.Observe(time.Since(start).Seconds())
	outcome := "loaded"
	switch {
	case errors.Is(err, ErrMissing):
		outcome = "missing"
	case err != nil:
		outcome = "failed"
	}
	m.loads.WithLabelValues(outcome).Inc()
}

// Describe is part of [prometheus.Collector].
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range []prometheus.Collector{m.requests, m.loads, m.kept, m.seconds} {
		c.Describe(ch)
	}
}

// Collect is part of [prometheus.Collector].
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{m.requests, m.loads, m.kept, m.seconds} {
		c.Collect(ch)
	}
}
