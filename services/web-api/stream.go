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

// writeTimeout is how long one write to a stream may take.
const writeTimeout = 10 * time.Second

// stream sends the steps of the events as Server-Sent Events: first all known steps, then each new
// one, until the reader leaves or the server stops. A reader that reconnects gets all steps again,
// so the stream needs no Last-Event-ID.
//
//	event: step
//	data: {"id":…,"stage":"distance","state":"done","at":…,"detail":{"miles":…}}
//
// There may be thousands of idle streams. Hijacking the connection frees the buffers and the deep
// stack of the request: about 15 kB a stream instead of 45.
func (s *site) stream(c echo.Context, ids []string) error {
	r, w := c.Request(), c.Response()
	release, err := s.streams.take(c, clientName(s.proxies.client(r)), 5*time.Second, "too many progress streams are open for your network")
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set(echo.HeaderContentType, typeStream)
	h.Set("Connection", "close")     // the end of the connection ends the stream
	h.Set("X-Accel-Buffering", "no") // or nginx would buffer the steps
	if r.Method == http.MethodHead {
		release()
		return c.NoContent(http.StatusOK)
	}
	s.open.Add(1) // before the hijack: until then Shutdown waits for the request
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

// follow writes the answer to the connection until the stream ends, and closes it.
func (s *site) follow(conn net.Conn, header http.Header, ids []string) {
	ctx, cancel := context.WithCancel(s.stopping)
	defer cancel()
	out := newEventWriter(conn, s.heartbeat, cancel)
	out.open(header)
	read := make(chan struct{})
	go func() {
		defer close(read)
		// A stream has no read deadline, unlike a request. The client sends nothing after
		// its request, so whatever Read returns is the end.
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

// eventWriter writes a stream, and a heartbeat whenever it wrote nothing for a while.
type eventWriter struct {
	conn   net.Conn
	failed func()        // called when the reader has left or is too slow
	every  time.Duration // between heartbeats

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

// open writes the header and the first bytes of the body, which tell the reader that it is
// connected.
func (e *eventWriter) open(header http.Header) {
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 200 OK\r\n")
	_ = header.Write(&b) // a bytes.Buffer never fails
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

func (e *eventWriter) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.beat.Stop()
	_ = e.conn.Close() // fails if the reader has closed it before
}
