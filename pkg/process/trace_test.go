package process_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/process"
	"github.com/milepost/milepost/pkg/process/otlptest"
)

// tracedProgram runs a program until run returns, with the variables, and returns its error and what it logged.
func tracedProgram(t *testing.T, vars map[string]string, run func(*process.Process)) (logged string, err error) {
	t.Helper()
	env := map[string]string{"ADMIN_LISTEN": "127.0.0.1:0", "LOG_LEVEL": "debug"}
	for k, v := range vars {
		env[k] = v
	}
	var log bytes.Buffer
	p := process.Program[small]{Name: "sample", Run: func(_ context.Context, _ small, p *process.Process) error {
		run(p)
		return nil
	}}
	err = p.Start(t.Context(), nil, environment(env), io.Discard, &log)
	return log.String(), err
}

// hello is a server with routes, observed by the process, that asks another URL on /ask.
func hello(t *testing.T, p *process.Process, trusted func(*http.Request) bool, other string) *httptest.Server {
	t.Helper()
	c := &http.Client{Transport: p.Admin.Transport(http.DefaultTransport)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /users/{email}", func(_ http.ResponseWriter, r *http.Request) {
		p.Log.InfoContext(r.Context(), "asked for", "whom", r.PathValue("email"))
	})
	mux.HandleFunc("GET /broken", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	mux.HandleFunc("GET /cut", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("GET /stream", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Errorf("Flush through what observes: %v", err)
		}
	})
	mux.HandleFunc("GET /ask", func(w http.ResponseWriter, r *http.Request) {
		question, err := http.NewRequestWithContext(r.Context(), http.MethodGet, other, nil)
		if err != nil {
			t.Error(err)
			return
		}
		answer, err := c.Do(question)
		if err != nil {
			t.Error(err)
			return
		}
		_ = answer.Body.Close()
	})
	s := httptest.NewUnstartedServer(p.Admin.Observe(mux, trusted))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

const outside = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// TestTraces follows a request from one server to another into the collector.
func TestTraces(t *testing.T) {
	collector := otlptest.Start(t)
	logged, err := tracedProgram(t, map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL + "/", "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20x,team=a",
		"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
	}, func(p *process.Process) {
		inner := hello(t, p, nil, "")
		edge := hello(t, p, func(r *http.Request) bool { return r.Header.Get("X-Proxy") != "" }, inner.URL+"/users/ada@example.com")
		for _, from := range []string{"", "proxy"} {
			r, err := http.NewRequest(http.MethodGet, edge.URL+"/ask", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("traceparent", outside)
			r.Header.Set("X-Proxy", from)
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
		}
		get(t, edge.URL+"/broken")
	})
	if err != nil {
		t.Fatal(err)
	}
	spans := collector.Spans() // all of them: the end of a program flushes
	var names []string
	for _, s := range spans {
		names = append(names, s.Kind+" "+s.Name)
		if s.Service != "sample" || s.End.Before(s.Start) {
			t.Errorf("%s of %q took from %s to %s", s.Name, s.Service, s.Start, s.End)
		}
	}
	const hop = "server GET /ask, client GET, server GET /users/{email}, "
	if got := strings.Join(names, ", "); got != hop+hop+"server GET /broken" {
		t.Fatalf("the spans are %s", got)
	}
	for i := range 6 {
		if i%3 > 0 && (spans[i].Parent != spans[i-1].ID || spans[i].Trace != spans[i-1].Trace) {
			t.Errorf("%s is no child of %s", spans[i].Name, spans[i-1].Name)
		}
	}
	_, rest, _ := strings.Cut(outside, "-")
	theirs, parent := rest[:32], rest[33:49]
	if s := spans[0]; s.Trace == theirs || s.Parent != "" || len(s.Links) != 1 || s.Links[0] != (otlptest.Link{Trace: theirs, ID: parent}) {
		t.Errorf("the request of just anybody is %+v, want a trace of its own with a link", s)
	}
	if s := spans[3]; s.Trace != theirs || s.Parent != parent {
		t.Errorf("the request of a proxy is %+v, want it in the proxy's trace", s)
	}
	if s := spans[6]; s.Error != "Bad Gateway" || s.Attributes["http.response.status_code"] != "502" || s.Attributes["http.route"] != "/broken" {
		t.Errorf("the broken request is %+v", s)
	}
	for _, s := range spans {
		if text := fmt.Sprint(s); strings.Contains(text, "@") {
			t.Errorf("a span has an address: %s", text)
		}
	}
	if h := collector.Headers()[0]; h.Get("Authorization") != "Bearer x" || h.Get("Team") != "a" {
		t.Errorf("the collector got the headers %v", h)
	}
	for _, s := range []int{2, 5} {
		if want := "whom=…@example.com trace=" + spans[s].Trace; !strings.Contains(logged, want) {
			t.Errorf("the log has no %q:\n%s", want, logged)
		}
	}
}

// TestTracesOff: no endpoint or a switch, and there is no tracer.
func TestTracesOff(t *testing.T) {
	for name, vars := range map[string]map[string]string{
		"no endpoint": {"OTEL_SERVICE_NAME": "x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
		"disabled":    {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"},
		"no exporter": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := tracedProgram(t, vars, func(p *process.Process) {
				if got := p.Admin.Tracer(); got != nil {
					t.Errorf("Tracer() = %v, want nil", got)
				}
				if p.Admin.Transport(http.DefaultTransport) != http.DefaultTransport {
					t.Error("requests go through more than their transport")
				}
			}); err != nil {
				t.Error(err)
			}
		})
	}
	var none *process.Admin
	if none.Tracer() != nil {
		t.Error("a nil Admin has a tracer")
	}
}

// TestTracesVariables: what cannot be used stops the start, with a line that says what can.
func TestTracesVariables(t *testing.T) {
	for _, tc := range []struct{ name, value, why string }{
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "is not a URL"},
		{"OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "is not http/protobuf"},
		{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "is not http/protobuf"},
		{"OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "is not gzip or none"},
		{"OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "is not a number of milliseconds"},
		{"OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere", "is not a file with certificates"},
		{"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/nowhere", "is not a file with a certificate"},
		{"OTEL_TRACES_EXPORTER", "zipkin", "is not otlp or none"},
	} {
		vars := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", tc.name: tc.value}
		_, err := tracedProgram(t, vars, func(*process.Process) { t.Errorf("%s=%s was taken", tc.name, tc.value) })
		var wrong *process.VariableError
		if !errors.As(err, &wrong) || wrong.Name != tc.name || !strings.Contains(wrong.Error(), tc.why) {
			t.Errorf("%s=%s: %v, want that it %s", tc.name, tc.value, err, tc.why)
		}
	}
	vars := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_HEADERS": "secret"}
	_, err := tracedProgram(t, vars, func(*process.Process) { t.Error("it ran") })
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "name=value") {
		t.Errorf("OTEL_EXPORTER_OTLP_HEADERS without a value: %v", err)
	}
}

// TestTracesRetried: a collector that is busy gets the spans again.
func TestTracesRetried(t *testing.T) {
	collector := otlptest.Start(t)
	collector.Answer(http.StatusServiceUnavailable)
	logged, err := tracedProgram(t, map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": collector.URL + "/v1/traces"}, func(p *process.Process) {
		get(t, hello(t, p, nil, "").URL+"/broken")
	})
	if err != nil || len(collector.Spans()) != 1 || strings.Contains(logged, "not delivered") {
		t.Errorf("%d spans came, %v, and it was logged\n%s", len(collector.Spans()), err, logged)
	}
}

// TestTracesLost: a collector that refuses, is away or never answers costs the spans, one line in the log and no time.
func TestTracesLost(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // connections are made and nobody takes them
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	refuses := otlptest.Start(t)
	refuses.Answer(400, 400, 400, 400, 400, 400, 400, 400)
	for name, endpoint := range map[string]string{
		"refuses": refuses.URL, "away": "http://127.0.0.1:1", "silent": "http://" + silent.Addr().String(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "10") // OpenTelemetry's own library reads this one
			var took time.Duration
			var worked time.Time
			logged, err := tracedProgram(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, func(p *process.Process) {
				s := hello(t, p, nil, "")
				start := time.Now()
				for range 4 {
					get(t, s.URL+"/broken")
					time.Sleep(30 * time.Millisecond) // several batches
				}
				worked = time.Now()
				took = worked.Sub(start)
			})
			ended := time.Since(worked)
			if err != nil || took > 2*time.Second || ended > 5*time.Second {
				t.Errorf("four requests took %s and the end %s: %v", took, ended, err)
			}
			if n := strings.Count(logged, "level=WARN"); n > 1 || name != "silent" && n == 0 {
				t.Errorf("%d warnings, want one\n%s", n, logged)
			}
		})
	}
}
