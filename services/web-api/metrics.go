package webapi

import "github.com/prometheus/client_golang/prometheus"

// metrics are the edge's own; the runtime has those of publishing, and the server those of HTTP.
type metrics struct {
	submissions *prometheus.CounterVec
	streams     prometheus.Gauge
}

// newMetrics registers the metrics, unless there is no registry.
func newMetrics(r *prometheus.Registry) *metrics {
	m := &metrics{
		submissions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "milepost_submissions_total", Help: "Well-formed submissions, by what became of them at the edge.",
		}, []string{"outcome"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "milepost_progress_streams", Help: "Progress streams open.",
		}),
	}
	if r != nil {
		r.MustRegister(m.submissions, m.streams)
	}
	return m
}
