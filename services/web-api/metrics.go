package webapi

import "github.com/prometheus/client_golang/prometheus"

// metrics are the edge's own; the runtime has those of publishing.
type metrics struct {
	requests    *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	submissions *prometheus.CounterVec
	streams     prometheus.Gauge
}

// newMetrics registers the metrics, unless there is no registry.
func newMetrics(r *prometheus.Registry) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "milepost_http_requests_total", Help: "Requests answered, by route, method and status.",
		}, []string{"route", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "milepost_http_request_seconds", Help: "Time to answer a request, streams aside, by route.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2.5, 11),
		}, []string{"route"}),
		submissions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "milepost_submissions_total", Help: "Well-formed submissions, by what became of them at the edge.",
		}, []string{"outcome"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "milepost_progress_streams", Help: "Progress streams open.",
		}),
	}
	if r != nil {
		r.MustRegister(m.requests, m.seconds, m.submissions, m.streams)
	}
	return m
}
