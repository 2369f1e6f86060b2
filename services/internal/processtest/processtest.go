// Package processtest is for tests of programs and of services that answer requests.
package processtest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/cache"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/pkg/telemetry"
	"github.com/milepost/milepost/services/internal/jsonapi"
)

// Until asks address until the answer has the text. It fails the test at once if the program ends.
func Until(t testing.TB, address, text string, ended <-chan error) {
	t.Helper()
	var body []byte
	ok := false
	defer func() {
		if !ok {
			t.Logf("GET %s: last answer %q", address, body)
		}
	}()
	stagetest.Eventually(t, fmt.Sprintf("GET %s answers %q", address, text), func() bool {
		select {
		case err := <-ended:
			t.Fatalf("the program ended with %v", err)
		default:
		}
		resp, err := http.Get(address)
		if err != nil {
			return false // not listening yet
		}
		defer resp.Body.Close()
		body, err = io.ReadAll(resp.Body)
		ok = err == nil && strings.Contains(string(body), text)
		return ok
	})
}

// Broker opens a broker that is closed when the test ends. Its lease is a second.
func Broker(t testing.TB, o *redis.Options) *stage.Broker {
	t.Helper()
	b, err := stage.Open(stage.Options{Redis: o, Log: slog.New(slog.DiscardHandler), Lease: time.Second})
	stagetest.OK(t, err)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// Stage runs a stage until stop is called or the test ends, and waits until it is ready.
func Stage(t testing.TB, b *stage.Broker, c stage.Config, h stage.Handler) (stop func()) {
	t.Helper()
	s, err := b.New(c, h)
	stagetest.OK(t, err)
	stop = stagetest.Run(t, s)
	stagetest.Eventually(t, "stage "+c.Name+" is ready", func() bool { return s.Ready() == nil })
	return stop
}

// Run calls a service's Run, which must return nil when stop is called or the test ends.
func Run(t testing.TB, run func(context.Context) error) (stop func()) {
	t.Helper()
	return stagetest.Run(t, runner(run))
}

type runner func(context.Context) error

func (r runner) Run(ctx context.Context) error { return r(ctx) }

// Serve is Run for a service on a free port, and returns its base URL.
func Serve(t testing.TB, run func(ctx context.Context, l net.Listener) error) (base string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	stagetest.OK(t, err)
	return "http://" + l.Addr().String(), Run(t, func(ctx context.Context) error { return run(ctx, l) })
}

// Answering is a running service that answers requests in JSON.
type Answering struct {
	Base   string // URL
	Broker *stage.Broker
	Admin  *telemetry.Admin
}

// Answer is Serve for such a service, over the Redis of the pipeline and that of its cache, which
// may be slow.
func Answer(t testing.TB, broker, answers *redis.Options, run func(context.Context, jsonapi.Deps) error) Answering {
	t.Helper()
	a := Answering{Broker: Broker(t, broker), Admin: telemetry.NewAdmin()}
	log := slog.New(slog.DiscardHandler)
	slow := *answers
	slow.ReadTimeout = time.Minute
	c := cache.Open(&slow, "", log)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	a.Base, _ = Serve(t, func(ctx context.Context, l net.Listener) error {
		return run(ctx, jsonapi.Deps{Broker: a.Broker, Cache: c, Listener: l, Log: log, Admin: a.Admin})
	})
	return a
}

// Settled reports whether the service's group, the only one of the channel and an optional one, has
// settled everything.
func (a Answering) Settled(channel string) bool {
	s, err := inspect.New(a.Broker).Status(context.Background(), channel)
	return err == nil && len(s.Groups) == 1 && s.Groups[0].Optional && s.Groups[0].Backlog == 0
}

// GetJSON decodes the answer to a GET request into answer and returns its status. authorization is
// the request's header, or "".
func GetJSON(t testing.TB, address, authorization string, answer any) (status int) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	stagetest.OK(t, err)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	response, err := http.DefaultClient.Do(r)
	stagetest.OK(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	stagetest.OK(t, err)
	if err := json.Unmarshal(body, answer); err != nil {
		t.Fatalf("GET %s answered %q: %v", address, body, err)
	}
	return response.StatusCode
}
