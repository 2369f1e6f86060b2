package webapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/milepost/milepost/pkg/stage"
)

// writeTimeout is how long a reader of a stream may stand still.
const writeTimeout = 10 * time.Second

// stream sends the steps of the events as Server-Sent Events: first what is known, then what happens, until the reader
// leaves or the server stops. A reader that lost the connection asks again and gets everything again, so events carry no
// IDs of their own.
//
//	event: step
//	data: {"id":…,"stage":"distance","state":"done","at":…,"detail":{"miles":…}}
//
// There may be thousands of streams, nearly always idle, so the connection is taken from the server together with the
// buffers and the deep stack that a request has: about 15 kB a stream instead of 45.
func (s *site) stream(c echo.Context, ids []string) error {
	r, w := c.Request(), c.Response()
	client := clientName(clientAddress(r, s.settings.TrustedProxies))
	release, ok := s.streams.take(client)
	if !ok {
		retryAfter(c, 5*time.Second)
		return echo.NewHTTPError(http.StatusTooManyRequests, "too many progress streams are open for your network")
	}
	h := w.Header()
	h.Set(echo.HeaderContentType, typeStream)
	h.Set("Connection", "close")     // the stream ends where the connection does
	h.Set("X-Accel-Buffering", "no") // nginx would hold the steps back
	if r.Method == http.MethodHead {
		release()
		return c.NoContent(http.StatusOK)
	}
	s.open.Add(1) // while the server still waits for this request, so that a stop waits for either
	conn, _, err := w.Hijack()
	if err != nil {
		s.open.Done()
		release()
		return fmt.Errorf("take the connection: %w", err)
	}
	s.metrics.streams.Inc()
	go func() {
		defer s.open.Done()
		defer s.metrics.streams.Dec()
		defer release()
		s.follow(conn, h, ids)
	}()
	return nil
}

// follow writes the answer on the connection, until the stream is over, and closes it.
func (s *site) follow(conn net.Conn, header http.Header, ids []string) {
	ctx, cancel := context.WithCancel(s.stopping)
	defer cancel()
	out := newEventWriter(conn, s.heartbeat, cancel)
	out.open(header)
	read := make(chan struct{})
	go func() {
		defer close(read)
		// The server has set a deadline for the request; a stream has none. Nothing is read after a request, so
		// whatever comes is the end.
		_ = conn.SetReadDeadline(time.Time{})
		var b [1]byte
		_, _ = conn.Read(b[:])
		cancel()
	}()
	err := s.watcher.Watch(ctx, ids, func(news stage.Step) {
		data, err := json.Marshal(step(news))
		if err != nil {
			s.log.Warn("step not sent", "event", news.ID, "stage", news.Stage, "err", err)
			return
		}
		out.send("event: step\ndata: " + string(data) + "\n\n")
	})
	if err != nil && ctx.Err() == nil {
		s.log.Warn("stream ended", "err", err)
	}
	out.close()
	<-read
}

// eventWriter writes a stream, and a heartbeat when nothing else was written for a while.
type eventWriter struct {
	conn   net.Conn
	failed func() // called when the reader is gone, or too slow to be kept
	every  time.Duration

	mu     sync.Mutex
	beat   *time.Timer
	closed bool
}

func newEventWriter(conn net.Conn, every time.Duration, failed func()) *eventWriter {
	e := &eventWriter{conn: conn, failed: failed, every: every}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.beat = time.AfterFunc(every, func() { e.send(": still here\n\n") })
	return e
}

// open begins the answer. It has some body at once, or the reader would not know that it is connected.
func (e *eventWriter) open(header http.Header) {
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 200 OK\r\n")
	_ = header.Write(&b) // a buffer takes everything
	b.WriteString("\r\nretry: 1000\n\n")
	e.send(b.String())
}

func (e *eventWriter) send(text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	err := e.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err == nil {
		_, err = e.conn.Write([]byte(text))
	}
	if err != nil {
		e.closed = true
		e.failed()
		return
	}
	e.beat.Reset(e.every)
}

// close ends the stream.
func (e *eventWriter) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.beat.Stop()
	_ = e.conn.Close() // the reader may have done so before
}
