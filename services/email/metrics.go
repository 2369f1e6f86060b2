package email

import (
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/milepost/milepost/services/email/journal"
)

// figures are the metrics of the log and its journal. Those of the journal are 0 while another
// process writes the log.
type figures struct {
	open    atomic.Pointer[journal.Journal]
	dropped prometheus.Counter // batches of lines
	all     []prometheus.Collector
}

// newFigures are those of writer number.
func newFigures(number int) *figures {
	f := &figures{dropped: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "milepost_email_copies_dropped_total", Help: "Batches of log lines that standard output did not take.",
	})}
	counter := func(name, help string, of func(journal.Stats) float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "milepost_email_" + name, Help: help}, f.ask(of))
	}
	gauge := func(name, help string, of func(journal.Stats) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "milepost_email_" + name, Help: help}, f.ask(of))
	}
	f.all = []prometheus.Collector{
		f.dropped,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "milepost_email_writer", Help: "1 if this process writes the log, 0 while it is a standby or opens the journal.",
			ConstLabels: prometheus.Labels{"writer": strconv.Itoa(number)},
		}, f.ask(func(journal.Stats) float64 { return 1 })),
		counter("log_lines_total", "Lines written to the log.",
			func(s journal.Stats) float64 { return float64(s.Lines) }),
		counter("log_rotations_total", "Times the log was found renamed or removed, and a new file begun.",
			func(s journal.Stats) float64 { return float64(s.Rotations) }),
		gauge("journal_events", "Events that the journal remembers.",
			func(s journal.Stats) float64 { return float64(s.Events) }),
		counter("journal_records_total", "Records written; one has the lines of a batch.",
			func(s journal.Stats) float64 { return float64(s.Records) }),
		counter("journal_written_bytes_total", "Size of the records written.",
			func(s journal.Stats) float64 { return float64(s.Bytes) }),
		gauge("journal_size_bytes", "Size of the journal's files.",
			func(s journal.Stats) float64 { return float64(s.Size) }),
		counter("journal_recoveries_total", "Records whose lines had to be completed, after a crash or a full disk.",
			func(s journal.Stats) float64 { return float64(s.Recoveries) }),
	}
	return f
}

// ask returns the value of a metric: of the open journal's statistics, or 0.
func (f *figures) ask(of func(journal.Stats) float64) func() float64 {
	return func() float64 {
		j := f.open.Load()
		if j == nil {
			return 0
		}
		return of(j.Stats())
	}
}
