package email

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/milepost/milepost/services/email/journal"
)

// figures are the metrics of the log and its journal. They are 0 while another process writes it.
type figures struct {
	open atomic.Pointer[journal.Journal]
}

// figure is a metric made of what the journal says.
type figure struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(journal.Stats) float64
}

func newFigure(name, help string, kind prometheus.ValueType, of func(journal.Stats) float64) figure {
	return figure{prometheus.NewDesc("milepost_email_"+name, help, nil, nil), kind, of}
}

var (
	writerDesc = prometheus.NewDesc("milepost_email_writer",
		"1 if this process writes the log, 0 while it is a standby or opens the journal.", nil, nil)
	journalFigures = []figure{
		newFigure("log_lines_total", "Lines written to the log.", prometheus.CounterValue,
			func(s journal.Stats) float64 { return float64(s.Lines) }),
		newFigure("log_rotations_total", "Times the log was found renamed or removed, and a new file begun.", prometheus.CounterValue,
			func(s journal.Stats) float64 { return float64(s.Rotations) }),
		newFigure("journal_events", "Events that the journal remembers.", prometheus.GaugeValue,
			func(s journal.Stats) float64 { return float64(s.Events) }),
		newFigure("journal_records_total", "Records written; one has the lines of a batch.", prometheus.CounterValue,
			func(s journal.Stats) float64 { return float64(s.Records) }),
		newFigure("journal_written_bytes_total", "Size of the records written.", prometheus.CounterValue,
			func(s journal.Stats) float64 { return float64(s.Bytes) }),
		newFigure("journal_size_bytes", "Size of the journal's files.", prometheus.GaugeValue,
			func(s journal.Stats) float64 { return float64(s.Size) }),
		newFigure("journal_recoveries_total", "Records whose lines had to be completed, after a crash or a full disk.", prometheus.CounterValue,
			func(s journal.Stats) float64 { return float64(s.Recoveries) }),
	}
)

// Describe is part of [prometheus.Collector].
func (f *figures) Describe(ch chan<- *prometheus.Desc) {
	ch <- writerDesc
	for _, x := range journalFigures {
		ch <- x.desc
	}
}

// Collect is part of [prometheus.Collector].
func (f *figures) Collect(ch chan<- prometheus.Metric) {
	var s journal.Stats
	writer := 0.0
	if j := f.open.Load(); j != nil {
		s, writer = j.Stats(), 1
	}
	ch <- prometheus.MustNewConstMetric(writerDesc, prometheus.GaugeValue, writer)
	for _, x := range journalFigures {
		ch <- prometheus.MustNewConstMetric(x.desc, x.kind, x.of(s))
	}
}
