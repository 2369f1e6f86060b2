package telemetry_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/pkg/telemetry"
	"github.com/milepost/milepost/pkg/telemetry/otlptest"
)

// environment looks variables up in vars.
func environment(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func get(t *testing.T, url string) {
	t.Helper()
	answer, err := http.Get(url)
	stagetest.OK(t, err)
	_ = answer.Body.Close()
}

// traced does as a program does: it opens log and traces from the variables, calls run and delivers
// the last spans. It returns the error of the variables and what was logged.
func traced(t *testing.T, vars map[string]string, run func(*telemetry.Admin, *slog.Logger)) (logged string, err error) {
	t.Helper()
	var cfg struct {
		telemetry.Logging
		telemetry.Tracing
	}
	if err := config.Load(environment(vars), &cfg); err != nil {
		return "", err
	}
	var b stagetest.Output // the exporter may still write to it
	log := cfg.Logging.Open(&b, "sample")
	tracer, flush, err := cfg.Tracing.Open(environment(vars), "sample", "v1", log)
	if err != nil {
		return b.String(), err
	}
	admin := telemetry.NewAdmin()
	admin.Trace(tracer)
	run(admin, log)
	flush()
	return b.String(), nil
}

// hello is a server with routes, observed by admin, that asks another URL on /ask.
func hello(t *testing.T, admin *telemetry.Admin, log *slog.Logger, trusted func(*http.Request) bool, other string) *httptest.Server {
	t.Helper()
	c := &http.Client{Transport: admin.Transport(http.DefaultTransport)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /users/{email}", func(_ http.ResponseWriter, r *http.Request) {
		log.InfoContext(r.Context(), "asked for", "whom", r.PathValue("email"))
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
	s := httptest.NewUnstartedServer(admin.Observe(mux, trusted))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

const outside = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// TestTraces follows a request from one server to another into the collector.
func TestTraces(t *testing.T) {
	collector := otlptest.Start(t)
	logged, err := traced(t, map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL + "/", "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20x,team=a",
		"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
	}, func(admin *telemetry.Admin, log *slog.Logger) {
		inner := hello(t, admin, log, nil, "")
		edge := hello(t, admin, log, func(r *http.Request) bool { return r.Header.Get("X-Proxy") != "" }, inner.URL+"/users/ada@example.com")
		for _, from := range []string{"", "proxy"} {
			r, err := http.NewRequest(http.MethodGet, edge.URL+"/ask", nil)
			stagetest.OK(t, err)
			r.Header.Set("traceparent", outside)
			r.Header.Set("X-Proxy", from)
			answer, err := http.DefaultClient.Do(r)
			stagetest.OK(t, err)
			_ = answer.Body.Close()
		}
		get(t, edge.URL+"/broken")
	})
	stagetest.OK(t, err)
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
			if _, err := traced(t, vars, func(admin *telemetry.Admin, log *slog.Logger) {
				if got := admin.Tracer(); got != nil {
					t.Errorf("Tracer() = %v, want nil", got)
				}
				if admin.Transport(http.DefaultTransport) != http.DefaultTransport {
					t.Error("requests go through more than their transport")
				}
			}); err != nil {
				t.Error(err)
			}
		})
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
		_, err := traced(t, vars, func(*telemetry.Admin, *slog.Logger) { t.Errorf("%s=%s was taken", tc.name, tc.value) })
		var wrong *config.VariableError
		if !errors.As(err, &wrong) || wrong.Name != tc.name || !strings.Contains(wrong.Error(), tc.why) {
			t.Errorf("%s=%s: %v, want that it %s", tc.name, tc.value, err, tc.why)
		}
	}
	vars := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_HEADERS": "secret"}
	_, err := traced(t, vars, func(*telemetry.Admin, *slog.Logger) { t.Error("it ran") })
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "name=value") {
		t.Errorf("OTEL_EXPORTER_OTLP_HEADERS without a value: %v", err)
	}
}

// TestTracesRetried: a collector that is busy gets the spans again. One that refuses them costs
// them, and one line in the log. TestTraceCollectorAway of test/e2e has those that do not answer.
func TestTracesRetried(t *testing.T) {
	for status, spans := range map[int]int{http.StatusServiceUnavailable: 1, http.StatusBadRequest: 0} {
		collector := otlptest.Start(t)
		collector.Answer(status)
		logged, err := traced(t, map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": collector.URL + "/v1/traces"}, func(admin *telemetry.Admin, log *slog.Logger) {
			get(t, hello(t, admin, log, nil, "").URL+"/broken")
		})
		if err != nil || len(collector.Spans()) != spans || strings.Count(logged, "not delivered") != 1-spans {
			t.Errorf("of a collector that answers %d: %d spans came, %v, and it was logged\n%s", status, len(collector.Spans()), err, logged)
		}
	}
}
