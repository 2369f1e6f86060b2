package telemetry_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/pkg/telemetry"
)

// TestObserve asks a server in ways that a router knows and does not know, and looks at what was
// counted.
func TestObserve(t *testing.T) {
	admin := telemetry.NewAdmin()
	s := hello(t, admin, telemetry.Logging{}.Open(t.Output(), "sample"), nil, "")
	for _, path := range []string{"/users/ada@example.com", "/users/bob@example.com", "/broken", "/stream", "/nowhere/ada@example.com"} {
		get(t, s.URL+path)
	}
	once := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // on a used connection it would be asked again
	if _, err := once.Get(s.URL + "/cut"); err == nil {
		t.Error("an answer came over a connection that was cut")
	}
	r, err := http.NewRequest("BREW", s.URL+"/broken", nil)
	stagetest.OK(t, err)
	answer, err := http.DefaultClient.Do(r)
	stagetest.OK(t, err)
	_ = answer.Body.Close()

	page := ""
	stagetest.Eventually(t, "requests are counted, which is after their answer has been flushed", func() bool {
		w := httptest.NewRecorder()
		admin.Handler(false).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		page = w.Body.String()
		return strings.Contains(page, `route="/stream"} 1`) && strings.Contains(page, `route="/cut"} 1`)
	})
	for line, want := range map[string]bool{
		`http_requests_total{code="200",method="GET",route="/users/{email}"} 2`:          true,
		`http_requests_total{code="502",method="GET",route="/broken"} 1`:                 true,
		`http_requests_total{code="200",method="GET",route="/stream"} 1`:                 true,
		`http_requests_total{code="404",method="GET",route="other"} 1`:                   true,
		`http_requests_total{code="405",method="other",route="other"} 1`:                 true,
		`http_requests_total{code="500",method="GET",route="/cut"} 1`:                    true,
		`http_request_duration_seconds_count{method="GET",route="/users/{email}"} 2`:     true,
		`http_request_duration_seconds_count{method="GET",route="/stream"} 1`:            false,
		`http_request_duration_seconds_bucket{method="GET",route="/broken",le="+Inf"} 1`: true,
	} {
		if strings.Contains(page, line+"\n") != want {
			t.Errorf("%s: is it there? %v, want %v", line, !want, want)
		}
	}
	if strings.Contains(page, "@") {
		t.Error("a label has an address")
	}
}
