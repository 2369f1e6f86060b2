package webapi

import "github.com/prometheus/client_golang/prometheus"

// metrics are the edge's own. The runtime has metrics of publishing, the admin port those of HTTP.
type metrics struct {
	submissions *prometheus.CounterVec
	streams     prometheus.Gauge
}

func newMetrics(r *prometheus.Registry) *metrics {
	m := &metrics{
		submissions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "milepost_submissions_total", Help: "Well-formed submissions, by outcome at the edge.",
		}, []string{"outcome"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "milepost_progress_streams", Help: "Progress streams open.",
		}),
	}
	r.MustRegister(m.submissions, m.streams)
	return m
}
