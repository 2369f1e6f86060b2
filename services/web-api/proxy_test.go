package webapi

import (
	"crypto/tls"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/stage"
)

// TestSameSite: which origins of a form's page are this site's, by the names that the proxies and
// the settings give it.
func TestSameSite(t *testing.T) {
	var log strings.Builder
	s := siteOn(t, &fake{receipt: stage.Receipt{ID: someID}}, Settings{
		TrustedProxies: Networks{netip.MustParsePrefix("192.0.2.1/32")}, TrustedOrigins: Origins{"https://friend.example"},
	})
	s.log = slog.New(slog.NewTextHandler(&log, nil))
	h := s.handler()
	for name, tc := range map[string]struct {
		origin  string
		headers []string
		logged  string // of a 403; "" means 201
	}{
		"its own name":               {"http://example.com", nil, ""},
		"letter case":                {"http://EXAMPLE.com", nil, ""},
		"default port":               {"http://example.com:80", nil, ""},
		"another port":               {"http://example.com:8080", nil, "site=example.com variable=\"TRUSTED_ORIGINS=http://example.com:8080\""},
		"a trusted origin":           {"https://friend.example", []string{"Sec-Fetch-Site", "cross-site"}, ""},
		"forwarded host":             {"https://Shop.example", []string{"X-Forwarded-Host", "shop.example", "X-Forwarded-Proto", "https"}, ""},
		"forwarded host, port":       {"https://shop.example", []string{"X-Forwarded-Host", "shop.example:443, inner", "X-Forwarded-Proto", "https"}, ""},
		"forwarded port":             {"http://shop.example:8080", []string{"X-Forwarded-Host", "shop.example", "X-Forwarded-Port", "8080"}, ""},
		"Forwarded":                  {"https://shop.example:8443", []string{"Forwarded", `for=198.51.100.1;host="shop.example:8443";proto=https`}, ""},
		"another site":               {"https://evil.example", []string{"X-Forwarded-Host", "shop.example"}, "origin=https://evil.example site=shop.example"},
		"downgraded":                 {"http://shop.example", []string{"X-Forwarded-Host", "shop.example", "X-Forwarded-Proto", "https"}, "site=shop.example"},
		"its old name":               {"http://example.com", []string{"X-Forwarded-Host", "shop.example"}, "site=shop.example"},
		"a browser's word":           {"http://example.com", []string{"Sec-Fetch-Site", "cross-site"}, "site=example.com"},
		"no origin":                  {"null", nil, "origin=null"},
		"a proxy that is no trusted": {"http://shop.example", []string{"X-Forwarded-Host", "shop.example", "peer", "203.0.113.9:1"}, "variable=\"TRUSTED_PROXIES=203.0.113.9\""},
	} {
		log.Reset()
		r := postForm("email", "ada@example.com", "lat", "1", "long", "2")
		r.Header.Set("Origin", tc.origin)
		for i := 0; i < len(tc.headers); i += 2 {
			r.Header.Set(tc.headers[i], tc.headers[i+1])
		}
		if peer := r.Header.Get("peer"); peer != "" {
			r.RemoteAddr = peer
		}
		w := do(h, r)
		unquoted := strings.ReplaceAll(log.String(), `variable=TRUSTED`, `variable="TRUSTED`)
		if want := map[bool]int{true: 201, false: 403}[tc.logged == ""]; w.Code != want || !strings.Contains(unquoted, tc.logged) {
			t.Errorf("%s: a post from %s with %q: %d; want %d, and a log with %s: %s", name, tc.origin, tc.headers, w.Code, want, tc.logged, unquoted)
		}
	}
	r := postForm("email", "ada@example.com", "lat", "1", "long", "2")
	r.TLS = &tls.ConnectionState{}
	r.Header.Set("Origin", "https://example.com:443")
	if w := do(h, r); w.Code != 201 {
		t.Errorf("a post over TLS from the site itself: %d", w.Code)
	}
}

// TestCORS: scripts of a trusted origin may post and read, and those of others may not.
func TestCORS(t *testing.T) {
	var origins Origins
	if err := origins.UnmarshalText([]byte("HTTPS://Friend.example:443/")); err != nil {
		t.Fatal(err)
	}
	h := siteOn(t, &fake{receipt: stage.Receipt{ID: someID}}, Settings{TrustedOrigins: origins}).handler()
	for _, method := range []string{"OPTIONS", "POST", "GET"} {
		for origin, allowed := range map[string]string{"https://friend.example": "https://friend.example", "https://evil.example": ""} {
			r := postForm("email", "ada@example.com", "lat", "1", "long", "2")
			r.Method = method
			r.Header.Set("Origin", origin)
			r.Header.Set("Access-Control-Request-Method", "POST")
			w := do(h, r)
			got := w.Header()
			if got.Get("Access-Control-Allow-Origin") != allowed || !strings.Contains(strings.Join(got.Values("Vary"), ","), "Origin") {
				t.Errorf("%s from %s: headers %q", method, origin, got)
			}
			if method == "OPTIONS" && allowed != "" && (w.Code != 204 || !strings.Contains(got.Get("Access-Control-Allow-Headers"), "Content-Type")) {
				t.Errorf("preflight from %s: %d, headers %q", origin, w.Code, got)
			}
		}
	}
}

// TestNames: a request for another site's name is refused, whatever it says beside it.
func TestNames(t *testing.T) {
	s := siteOn(t, &fake{}, Settings{TrustedOrigins: Origins{"https://friend.example:8443"}, TrustedProxies: Networks{netip.MustParsePrefix("192.0.2.1/32")}})
	h := s.handler()
	for _, tc := range []struct {
		host, forwarded string
		status          int
	}{
		{"shop.example", "", 200}, {"127.0.0.1:8000", "", 200}, {"localhost", "", 200}, {"friend.example", "", 200},
		{"evil.example:8000", "", 421}, {"backend", "", 421},
		{"127.0.0.1:8000", "shop.example", 200}, {"backend", "shop.example", 200}, {"web-api:8000", "shop.example", 200},
		{"127.0.0.1:8000", "evil.example", 421}, {"evil.example", "shop.example", 421},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = tc.host
		if tc.forwarded != "" {
			r.Header.Set("X-Forwarded-Host", tc.forwarded)
		}
		if w := do(h, r); w.Code != tc.status || tc.status == 421 && !strings.Contains(w.Body.String(), "ALLOWED_HOSTS") {
			t.Errorf("GET / of %s, forwarded %q: %d %s; want %d", tc.host, tc.forwarded, w.Code, w.Body, tc.status)
		}
	}
}

var links = regexp.MustCompile(`(?:href|action|src)="(/[^"]*)"`)

// TestBasePath: below a path, every link of every page begins with it, whether or not the proxy has
// removed it, and the pages are otherwise the same.
func TestBasePath(t *testing.T) {
	proxy := Networks{netip.MustParsePrefix("192.0.2.1/32")}
	steps := []stage.Step{stepAt(0, Name, "done", "")}
	f := &fake{receipt: stage.Receipt{ID: someID}, steps: steps}
	for name, tc := range map[string]struct {
		settings Settings
		prefix   string // of the request's path
		header   string // X-Forwarded-Prefix
		root     string
	}{
		"root":                    {Settings{}, "", "", ""},
		"a proxy that keeps it":   {Settings{BasePath: "/mile.post"}, "/mile.post", "", "/mile.post"},
		"a proxy that removes it": {Settings{BasePath: "/milepost"}, "", "", "/milepost"},
		"a proxy that tells it":   {Settings{TrustedProxies: proxy}, "", "/apps/milepost/", "/apps/milepost"},
		"two proxies":             {Settings{TrustedProxies: proxy, BasePath: "/milepost"}, "/milepost", "/apps", "/apps/milepost"},
		"anybody's header":        {Settings{}, "", "/evil", ""},
		"a strange header":        {Settings{TrustedProxies: proxy}, "", "//evil.example", ""},
	} {
		h := siteOn(t, f, tc.settings).handler()
		for _, page := range []string{"/", "/events/" + someID, "/events/" + someID + "/", "/nowhere", "/POST", "/distance"} {
			r := httptest.NewRequest("GET", tc.prefix+page, nil)
			if page == "/POST" {
				r = postForm("email", "ada@example.com", "lat", "1", "long", "2")
				r.URL.Path = tc.prefix + "/distance"
			}
			r.Header.Set("Accept", "text/html")
			if tc.header != "" {
				r.Header.Set("X-Forwarded-Prefix", tc.header)
			}
			w := do(h, r)
			found := links.FindAllStringSubmatch(w.Body.String(), -1)
			if at := w.Header().Get("Location"); at != "" {
				found = append(found, []string{"", at})
			}
			if len(found) == 0 {
				t.Errorf("%s: %s: %d without a link", name, page, w.Code)
			}
			for _, l := range found {
				rest, ok := strings.CutPrefix(l[1], tc.root)
				if route := regexp.MustCompile(`^/($|events/|distance$|assets/|from[?])`); !ok || !route.MatchString(rest) {
					t.Errorf("%s: %s links to %s", name, page, l[1])
				}
			}
		}
	}
	h := siteOn(t, f, Settings{BasePath: "/milepost"}).handler()
	if w := do(h, httptest.NewRequest("GET", "/milepost?at=1,2", nil)); w.Code != 308 || w.Header().Get("Location") != "/milepost/?at=1,2" {
		t.Errorf("GET /milepost?at=1,2: %d to %s", w.Code, w.Header().Get("Location"))
	}
	if w := do(h, httptest.NewRequest("GET", "/milepostal", nil)); w.Code != 404 {
		t.Errorf("GET /milepostal: %d, want 404", w.Code)
	}
}
