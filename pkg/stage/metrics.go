package stage

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/milepost/milepost/pkg/stage/internal/entry"
)

// metrics of a broker's stages and publishers. Labels are stage and channel names, both of which
// are configuration.
type metrics struct {
	all                                                []prometheus.Collector
	publishes                                          *prometheus.CounterVec
	handledN, settledN, deadN, takenOver, adopted, odd *prometheus.CounterVec
	dropped, elsewhere, again                          *prometheus.CounterVec
	handler, wait, age, batch                          *prometheus.HistogramVec
	paused, backlog, pending, oldest, deadNow, dueNow  *prometheus.GaugeVec
	lost, consumers, waiting                           *prometheus.GaugeVec
}

var seconds = prometheus.ExponentialBuckets(0.0001, 4, 12) // 0.1 ms to 7 min

func newMetrics() *metrics {
	var all []prometheus.Collector
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "stage_" + name, Help: help}, labels)
		all = append(all, v)
		return v
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "stage_" + name, Help: help}, []string{"stage"})
		all = append(all, v)
		return v
	}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "stage_" + name, Help: help, Buckets: buckets}, []string{"stage"})
		all = append(all, v)
		return v
	}
	m := &metrics{
		publishes: counter("published_total", "Submissions sent to Redis, by channel.", "channel"),
		handledN:  counter("handled_total", "Events that a handler was called with.", "stage"),
		settledN:  counter("settled_total", "Entries settled, by outcome: forward, retry, dead or skip.", "stage", "outcome"),
		deadN:     counter("dead_total", "Entries set aside as dead letters.", "stage"),
		takenOver: counter("taken_over_total", "Consumers whose work was taken over because they were gone.", "stage"),
		adopted:   counter("adopted_total", "Bare publishes put into the stream.", "stage"),
		odd:       counter("kept_resets_total", "Announcements of kept messages that were not true.", "stage"),
		dropped:   counter("dropped_total", "Bare publishes that could not be put into the stream.", "stage"),
		again:     counter("redelivered_total", "Entries delivered again: retries, replays, what gone or stopped consumers held, what was pending after a start or a reconnect.", "stage"),
		elsewhere: counter("settled_elsewhere_total", "Entries that another consumer had settled first.", "stage"),
		handler:   histogram("handler_seconds", "Duration of handler calls.", seconds),
		wait:      histogram("queue_wait_seconds", "Time from an entry's read to its handler call.", seconds),
		age:       histogram("event_age_seconds", "Time from an event's submission to its settling here.", seconds),
		batch:     histogram("settle_batch_size", "Entries settled in one script call.", prometheus.ExponentialBuckets(1, 2, 9)),
		paused:    gauge("paused", "1 while the stage is paused because what it depends on is down."),
		backlog:   gauge("backlog_entries", "Entries the group has not settled."),
		pending:   gauge("pending_entries", "Entries delivered and not settled, in the whole group."),
		oldest:    gauge("oldest_unsettled_seconds", "Age of the group's oldest unsettled entry; 0 if there is none."),
		deadNow:   gauge("dead_letters", "Dead letters of the input channel."),
		dueNow:    gauge("due_entries", "Retries of the input channel that are not due yet."),
		lost:      gauge("lost_entries", "Entries that an optional group was trimmed past."),
		consumers: gauge("consumers", "Consumers of the group."),
		waiting:   gauge("shards_waiting", "Shards whose writer is not running, or that have none."),
	}
	m.all = all
	return m
}

// Describe and Collect make a Broker a prometheus.Collector: register it to export what its stages
// do.
func (b *Broker) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range b.metrics.all {
		c.Describe(ch)
	}
	ch <- memoryUsed
	ch <- memoryMax
}

// Collect implements prometheus.Collector. It asks Redis how full it is, and waits a second at most
// for the answer.
func (b *Broker) Collect(ch chan<- prometheus.Metric) {
	for _, c := range b.metrics.all {
		c.Collect(ch)
	}
	b.collectMemory(ch)
}

func (m *metrics) published(channel string, n int) {
	m.publishes.WithLabelValues(channel).Add(float64(n))
}

// stageMetrics are one stage's, looked up once.
type stageMetrics struct {
	handledN, deadN, takenOver, adopted, odd, dropped, elsewhere prometheus.Counter
	forwarded, retried, buried, skipped, again                   prometheus.Counter
	handler, wait, age, batch                                    prometheus.Observer
	paused, backlog, pending, oldest, deadNow, dueNow            prometheus.Gauge
	consumers, waiting                                           prometheus.Gauge
	lost                                                         *prometheus.GaugeVec // has no value until all shards have ticked
}

func (m *metrics) stage(name string) *stageMetrics {
	return &stageMetrics{
		handledN: m.handledN.WithLabelValues(name), deadN: m.deadN.WithLabelValues(name), takenOver: m.takenOver.WithLabelValues(name),
		adopted: m.adopted.WithLabelValues(name), odd: m.odd.WithLabelValues(name), dropped: m.dropped.WithLabelValues(name),
		elsewhere: m.elsewhere.WithLabelValues(name), again: m.again.WithLabelValues(name), consumers: m.consumers.WithLabelValues(name),
		forwarded: m.settledN.WithLabelValues(name, "forward"), retried: m.settledN.WithLabelValues(name, "retry"),
		buried: m.settledN.WithLabelValues(name, "dead"), skipped: m.settledN.WithLabelValues(name, "skip"),
		handler: m.handler.WithLabelValues(name), wait: m.wait.WithLabelValues(name), age: m.age.WithLabelValues(name),
		batch: m.batch.WithLabelValues(name), paused: m.paused.WithLabelValues(name), backlog: m.backlog.WithLabelValues(name),
		pending: m.pending.WithLabelValues(name), oldest: m.oldest.WithLabelValues(name), deadNow: m.deadNow.WithLabelValues(name),
		dueNow: m.dueNow.WithLabelValues(name), lost: m.lost.MustCurryWith(prometheus.Labels{"stage": name}), waiting: m.waiting.WithLabelValues(name),
	}
}

func (m *stageMetrics) handled(in []*delivery, start, end time.Time) {
	m.handledN.Add(float64(len(in)))
	m.handler.Observe(end.Sub(start).Seconds())
	again := 0
	for _, d := range in {
		m.wait.Observe(start.Sub(d.read).Seconds())
		if d.For != "" {
			again++
		}
	}
	if again > 0 {
		m.again.Add(float64(again))
	}
}

func (m *stageMetrics) settled(x settlement, now time.Time) {
	switch x.kind {
	case skip:
		m.skipped.Inc()
		return
	case forward:
		m.forwarded.Inc()
	case retry:
		m.retried.Inc()
	default:
		m.buried.Inc()
		m.deadN.Inc()
	}
	m.age.Observe(float64(now.UnixMicro())/1e6 - float64(x.d.At)/1e3)
}

// figures takes in the sum of what the ticks of all shards found; whole, if it has all of them.
// waiting is how many shards wait for their writer.
func (m *stageMetrics) figures(r *tickReply, waiting int, whole bool) {
	m.backlog.Set(float64(r.Backlog))
	m.pending.Set(float64(r.Pending))
	m.deadNow.Set(float64(r.Dead))
	m.dueNow.Set(float64(r.Due))
	if whole { // a sum that grows when a shard comes back would look like a loss
		m.lost.WithLabelValues().Set(float64(r.Lost))
	}
	m.consumers.Set(float64(r.Consumers))
	m.waiting.Set(float64(waiting))
	age := 0.0
	if oldest := entry.Time(r.Oldest); !oldest.IsZero() {
		age = max(0, time.Since(oldest).Seconds())
	}
	m.oldest.Set(age)
}
