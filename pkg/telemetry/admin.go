package telemetry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/milepost/milepost/pkg/config"
)

// Admin answers a program's operators: is it alive, is it ready, what are its metrics. Its methods
// are safe for concurrent use.
type Admin struct {
	registry *prometheus.Registry
	http     httpMetrics
	tracer   *sdktrace.TracerProvider // nil if traces are off
	stopping atomic.Bool
	page     atomic.Pointer[http.Handler]
	mu       sync.Mutex
	checks   []check
}

type check struct {
	name  string
	ready func() (note string, err error)
}

// NewAdmin makes an Admin with the metrics of the Go runtime and of the process.
func NewAdmin() *Admin {
	a := &Admin{registry: prometheus.NewRegistry()}
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), readiness{a})
	return a
}

// Registry returns the registry for the program's own metrics.
func (a *Admin) Registry() *prometheus.Registry { return a.registry }

// Watch makes /readyz call ready, which returns nil or what the program waits for. It is called on
// every request and must not block. The program is ready once all checks are, and not before the
// first Watch. A second Watch of a name replaces the first.
func (a *Admin) Watch(name string, ready func() error) {
	a.WatchNote(name, func() (string, error) { return "", ready() })
}

// WatchNote is Watch for a check that may be ready with a note, such as "standby", which /readyz
// shows instead of "ok".
func (a *Admin) WatchNote(name string, ready func() (note string, err error)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.checks = slices.DeleteFunc(a.checks, func(c check) bool { return c.name == name })
	a.checks = append(a.checks, check{name, ready})
}

func (a *Admin) watched() []check {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.checks)
}

// Show serves h at / and under /status.
func (a *Admin) Show(h http.Handler) { a.page.Store(&h) }

func (a *Admin) status(w http.ResponseWriter, r *http.Request) {
	if h := a.page.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	text(w, http.StatusNotFound, "no status page here; web-api and standalone have one with STATUS_PAGE=on\n")
}

// Stop makes /readyz say that the program is stopping, until it ends.
func (a *Admin) Stop() { a.stopping.Store(true) }

// Ready calls all checks. report has a line for each; ok is true if all are ready.
func (a *Admin) Ready() (report string, ok bool) {
	checks := a.watched()
	var b strings.Builder
	if ok = len(checks) > 0; !ok {
		b.WriteString("starting\n")
	}
	for _, c := range checks {
		says, err := c.ready()
		if err != nil {
			ok, says = false, err.Error()
		}
		// An error may quote text from the network; keep one line per check.
		fmt.Fprintf(&b, "%s: %s\n", c.name, strings.NewReplacer("\n", " ", "\r", " ").Replace(cmp.Or(says, "ok")))
	}
	if a.stopping.Load() {
		ok = false
		b.WriteString("stopping\n")
	}
	return b.String(), ok
}

// Handler serves /healthz, /readyz, /metrics, the handler of Show, and /debug/pprof/ if profiles is
// set.
func (a *Admin) Handler(profiles bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		report, ok := a.Ready()
		status := http.StatusOK
		if !ok {
			status = http.StatusServiceUnavailable
		}
		text(w, status, report)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{Registry: a.registry}))
	for _, pattern := range []string{"GET /{$}", "GET /status", "GET /status.json", "GET /status/", "POST /status/"} {
		mux.HandleFunc(pattern, a.status)
	}
	if profiles {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

func text(w http.ResponseWriter, status int, body string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body)) // an error means that the client is gone
}

// Serve answers on l, to the names in hosts, until stop is called. stop waits up to 2 s for running
// requests.
func (a *Admin) Serve(l net.Listener, hosts config.Hosts, profiles bool, log *slog.Logger) (stop func()) {
	s := &http.Server{
		Handler:           (&HostGuard{Hosts: hosts, Log: log}).Handler(a.Handler(profiles)),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       90 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("admin port closed", "err", err)
		}
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if s.Shutdown(ctx) != nil {
			_ = s.Close() // a profile is still being taken
		}
		<-done
	}
}

// readiness is the metric milepost_ready: 1 for every check that is ready.
type readiness struct{ *Admin }

var readyDesc = prometheus.NewDesc("milepost_ready", "1 if the check is ready, else 0.", []string{"check"}, nil)

func (r readiness) Describe(ch chan<- *prometheus.Desc) { ch <- readyDesc }

func (r readiness) Collect(ch chan<- prometheus.Metric) {
	for _, c := range r.watched() {
		up := 0.0
		if _, err := c.ready(); err == nil {
			up = 1
		}
		ch <- prometheus.MustNewConstMetric(readyDesc, prometheus.GaugeValue, up, c.name)
	}
}
