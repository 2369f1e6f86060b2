package email

import (
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// copier writes what it is given to a stream that may block or fail without anybody waiting for it. What does not fit
// is dropped and counted: the log is the record, this is a copy.
type copier struct {
	lines   chan []byte
	stop    chan struct{}
	done    chan struct{}
	dropped prometheus.Counter
}

const (
	copierBatches = 256         // what a slow reader may be behind
	copierDrain   = time.Second // what the end waits for it
)

func newCopier(w io.Writer, log *slog.Logger) *copier {
	c := &copier{
		lines: make(chan []byte, copierBatches), stop: make(chan struct{}), done: make(chan struct{}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "milepost_email_copies_dropped_total", Help: "Batches of log lines that standard output did not take.",
		}),
	}
	go c.run(w, log)
	return c
}

func (c *copier) run(w io.Writer, log *slog.Logger) {
	defer close(c.done)
	failed := false
	for {
		var b []byte
		select {
		case b = <-c.lines:
		default: // all is written
			select {
			case b = <-c.lines:
			case <-c.stop:
				return
			}
		}
		_, err := w.Write(b)
		if err != nil {
			c.dropped.Inc()
			if !failed {
				log.Warn("standard output does not take the log's lines", "err", err)
			}
		}
		failed = err != nil
	}
}

// write hands b over. It never blocks.
func (c *copier) write(b []byte) {
	select {
	case c.lines <- b:
	default:
		c.dropped.Inc()
	}
}

// close waits until all is written, a second at most: a stream that blocks keeps its goroutine until the process ends. A
// write that comes later, from a handler that outlived its stage, goes nowhere.
func (c *copier) close() {
	close(c.stop)
	select {
	case <-c.done:
	case <-time.After(copierDrain):
	}
}
