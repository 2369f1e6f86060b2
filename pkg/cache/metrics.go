package cache

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	registry              *prometheus.Registry
	requests, loads, kept *prometheus.CounterVec
	seconds               prometheus.Histogram
}

func newMetrics(name string) *metrics {
	r, labels := prometheus.NewRegistry(), prometheus.Labels{"cache": name}
	counter := func(name, help string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, ConstLabels: labels, Help: help}, []string{"outcome"})
		r.MustRegister(c)
		return c
	}
	m := &metrics{
		registry: r,
		requests: counter("milepost_cache_requests_total", "Look-ups: hit, missing (known not to exist), "+
			"stale (an old value, since loading failed or took too long), miss, expired, corrupt, away (Redis is)."),
		loads: counter("milepost_cache_loads_total", "Loads of values that were not in the cache, by outcome."),
		kept: counter("milepost_cache_kept_total", "Loaded values by what became of them: kept, "+
			"outdated (dropped while they were loaded), failed (Redis did not take them)."),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "milepost_cache_load_seconds", ConstLabels: labels, Help: "Time of a load.",
			Buckets: prometheus.ExponentialBuckets(0.001, 3, 9),
		}),
	}
	r.MustRegister(m.seconds)
	return m
}

func (m *metrics) Describe(ch chan<- *prometheus.Desc) { m.registry.Describe(ch) }

func (m *metrics) Collect(ch chan<- prometheus.Metric) { m.registry.Collect(ch) }

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
