package webapi

import (
	"context"
	"encoding/json"
	"fmt"
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
func (s *site) stream(c echo.Context, ids []string) error {
	r, w := c.Request(), c.Response()
	release, ok := s.streams.take(clientName(clientAddress(r, s.settings.TrustedProxies)))
	if !ok {
		retryAfter(c, 5*time.Second)
		return echo.NewHTTPError(http.StatusTooManyRequests, "too many progress streams are open for your network")
	}
	defer release()
	s.metrics.streams.Inc()
	defer s.metrics.streams.Dec()

	h := w.Header()
	h.Set(echo.HeaderContentType, typeStream)
	h.Set("X-Accel-Buffering", "no") // nginx would hold the steps back
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	control := http.NewResponseController(w)
	// The limits of an ordinary request do not fit: the reading one would end the stream, the writing one is set anew
	// with each write. A writer that has no deadlines to set (a test's) needs none.
	_ = control.SetReadDeadline(time.Time{})
	write := func(text string) error {
		_ = control.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := w.Write([]byte(text)); err != nil {
			return err
		}
		return control.Flush()
	}

	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)()
	var steps mailbox
	watched := make(chan error, 1)
	steps.full = make(chan struct{}, 1)
	go func() { watched <- s.watcher.Watch(ctx, ids, steps.put) }()
	defer func() {
		cancel()
		if watched != nil {
			<-watched
		}
	}()

	// Something must be sent at once, or the reader would not know that it is connected.
	err := write("retry: 1000\n\n")
	beat := time.NewTicker(s.heartbeat)
	defer beat.Stop()
	for err == nil {
		select {
		case err = <-watched:
			watched = nil
			if err == nil || ctx.Err() != nil {
				return nil
			}
			s.log.Warn("stream ended", "err", err)
			return nil
		case <-ctx.Done():
			return nil
		case <-beat.C:
			err = write(": still here\n\n")
		case <-steps.full:
			for _, news := range steps.take() {
				data, encodeErr := json.Marshal(step(news))
				if encodeErr != nil {
					s.log.Warn("step not sent", "stage", news.Stage, "err", encodeErr)
					continue
				}
				if err = write(fmt.Sprintf("event: step\ndata: %s\n\n", data)); err != nil {
					break
				}
			}
		}
	}
	return nil // the reader is gone, or too slow to be kept
}

// mailbox holds what is to be sent next. Only the latest step of a stage matters, so it stays small however slow the
// reader is, and putting never waits.
type mailbox struct {
	mu    sync.Mutex
	steps []stage.Step
	full  chan struct{}
}

func (m *mailbox) put(s stage.Step) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, old := range m.steps {
		if old.ID == s.ID && old.Stage == s.Stage {
			m.steps[i] = s
			return
		}
	}
	m.steps = append(m.steps, s)
	select {
	case m.full <- struct{}{}:
	default:
	}
}

func (m *mailbox) take() []stage.Step {
	m.mu.Lock()
	defer m.mu.Unlock()
	steps := m.steps
	m.steps = nil
	return steps
}
