package webapi

import (
	"net/http/httptest"
	"testing"
)

func TestAccepted(t *testing.T) {
	const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
	for name, tc := range map[string]struct {
		accept string
		offers []string
		want   string
	}{
		"nothing said":        {"", []string{typeHTML, typeJSON}, typeHTML},
		"anything":            {"*/*", []string{typeJSON, typeHTML}, typeJSON},
		"a browser":           {browser, []string{typeJSON, typeHTML}, typeHTML},
		"json":                {"application/json", []string{typeHTML, typeJSON}, typeJSON},
		"weights":             {"text/html;q=0.2, application/json;q=0.3", []string{typeHTML, typeJSON}, typeJSON},
		"a group of types":    {"text/*", []string{typeJSON, typeHTML}, typeHTML},
		"specific beats any":  {"*/*, application/json;q=0.1", []string{typeJSON, typeHTML}, typeHTML},
		"refused":             {"text/html;q=0, */*", []string{typeHTML, typeJSON}, typeJSON},
		"an event stream":     {"text/event-stream", []string{typeJSON, typeHTML, typeStream}, typeStream},
		"nothing that we are": {"image/png", []string{typeHTML, typeJSON}, typeHTML},
		"rubbish":             {";;;,,/", []string{typeHTML, typeJSON}, typeHTML},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			if tc.accept != "" {
				r.Header.Set("Accept", tc.accept)
			}
			if got := accepted(r, tc.offers...); got != tc.want {
				t.Errorf("accepted(%q, %q) = %q; want %q", tc.accept, tc.offers, got, tc.want)
			}
		})
	}
}

func TestTakesGzip(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false, "gzip": true, "br, GZIP": true, "gzip;q=0": false, "gzip; q=0.000": false, "gzip;q=0.5": true, "identity": false,
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept-Encoding", accept)
		if got := takesGzip(r); got != want {
			t.Errorf("takesGzip(%q) = %v; want %v", accept, got, want)
		}
	}
}
