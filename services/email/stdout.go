package email

import (
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// copier copies lines to a stream that may block or fail; its callers never wait. It drops and
// counts what does not fit: the log is the record.
type copier struct {
	lines   chan []byte
	stop    chan struct{}
	done    chan struct{}
	dropped prometheus.Counter
}

const (
	copierBatches = 256         // how far a slow reader may be behind
	copierDrain   = time.Second // how long close waits
)

func newCopier(w io.Writer, dropped prometheus.Counter, log *slog.Logger) *copier {
	c := &copier{make(chan []byte, copierBatches), make(chan struct{}), make(chan struct{}), dropped}
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
		default: // all are written
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

// write never blocks.
func (c *copier) write(b []byte) {
	select {
	case c.lines <- b:
	default:
		c.dropped.Inc()
	}
}

// close waits until all lines are written, but at most a second: a stream that blocks keeps its
// goroutine until the process ends. Lines written after close go nowhere.
func (c *copier) close() {
	close(c.stop)
	select {
	case <-c.done:
	case <-time.After(copierDrain):
	}
}
