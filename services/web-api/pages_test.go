package webapi

import (
	"bytes"
	"context"
	"flag"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/telemetry"
)

var update = flag.Bool("update", false, "write the golden files anew")

// fake stands for the pipeline where a test wants a certain answer.
type fake struct {
	receipt stage.Receipt
	err     error
	steps   []stage.Step
	got     []stage.Submission
}

func (f *fake) Publish(_ context.Context, s stage.Submission) (stage.Receipt, error) {
	f.got = append(f.got, s)
	return f.receipt, f.err
}

func (f *fake) Progress(context.Context, string) ([]stage.Step, error) {
	if f.err != nil {
		return nil, f.err
	}
	if len(f.steps) == 0 {
		return nil, stage.ErrNotFound
	}
	return f.steps, nil
}

func (f *fake) Watch(ctx context.Context, _ []string, tell func(stage.Step)) error {
	for _, s := range f.steps {
		tell(s)
	}
	<-ctx.Done()
	return ctx.Err()
}

// siteOn is a site over the fake, with a one-time key that is always the same.
func siteOn(t testing.TB, f *fake, s Settings) *site {
	t.Helper()
	site, err := newSite(Deps{Office: velocity, Hosts: config.Hosts{"example.com", "shop.example"}, Settings: s, Admin: telemetry.NewAdmin(), Log: quiet}, f, f, f)
	if err != nil {
		t.Fatal(err)
	}
	site.newKey = func() string { return "ONE-TIME-KEY" }
	site.now = func() time.Time { return noon.Add(time.Second) }
	return site
}

// postForm is a request as a browser makes it from the page.
func postForm(fields ...string) *http.Request {
	v := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		v.Set(fields[i], fields[i+1])
	}
	r := httptest.NewRequest("POST", "/distance", strings.NewReader(v.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

func do(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestPages holds every page to its golden file; go test -update writes them.
func TestPages(t *testing.T) {
	ada := []string{"email", "ada@example.com", "lat", "40.7128° N", "long", "74,0060 W", "idempotency_key", "TYPED-KEY"}
	get := func(path string) *http.Request {
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("Accept", "text/html")
		return r
	}
	put := get("/distance")
	put.Method = http.MethodPut
	late := &stage.LimitError{Limit: stage.Limit{Name: "client:192.0.2.1"}, Retry: 1100 * time.Millisecond}
	for name, tc := range map[string]struct {
		request *http.Request
		fake    fake
		status  int
	}{
		"empty":       {get("/"), fake{}, 200},
		"prefilled":   {get("/?at=-33.8688,+151.2093"), fake{}, 200},
		"shared":      {get("/from?at=40.7128,-74.0060,New+York"), fake{}, 200},
		"no-place":    {get("/from?at=nowhere"), fake{}, 404},
		"named":       {postForm(append(ada, "place", "40.7128,-74.0060,New York")...), fake{receipt: stage.Receipt{ID: someID}}, 201},
		"misnamed":    {postForm(append(ada, "place", "1,2,New York")...), fake{receipt: stage.Receipt{ID: someID}}, 201},
		"accepted":    {postForm(ada...), fake{receipt: stage.Receipt{ID: someID}}, 201},
		"repeat":      {postForm(ada...), fake{receipt: stage.Receipt{ID: someID, Repeat: true}}, 201},
		"wrong":       {postForm("email", `"><script>alert(1)</script>`, "lat", "91", "long", "\r\n'", "idempotency_key", "TYPED-KEY"), fake{}, 422},
		"nothing":     {postForm(), fake{}, 422},
		"unavailable": {postForm(ada...), fake{err: stage.ErrUnavailable}, 503},
		"backlog":     {postForm(ada...), fake{err: stage.ErrBacklog}, 503},
		"limited":     {postForm(ada...), fake{err: late}, 429},
		"method":      {put, fake{}, 405},
		"no-page":     {get("/nowhere"), fake{}, 404},
		"no-event":    {get("/events/" + someID), fake{}, 404},
		"event-under-way": {get("/events/" + someID), fake{steps: []stage.Step{
			stepAt(0, Name, "done", ""), stepAt(12, "distance", "done", `{"miles":5679.936314229341}`), stepAt(20, "db", "retry", ""),
		}}, 200},
		"event-late": {get("/events/" + someID), fake{steps: []stage.Step{stepAt(-5000, Name, "done", "")}}, 200},
		"event-done": {get("/events/" + someID), fake{steps: []stage.Step{
			stepAt(0, Name, "done", ""), stepAt(12, "distance", "done", `{"miles":5679.936314229341}`), stepAt(20, "db", "done", ""),
			stepAt(31, "email", "done", `{"sent_at":"2026-11-21T12:00:00Z"}`), stepAt(90, "weather", "done", `{"temperature":21.5}`),
		}}, 200},
		"event-dead": {get("/events/" + someID), fake{steps: []stage.Step{
			stepAt(0, Name, "done", ""), stepAt(12, "distance", "dead", ""),
		}}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			s := siteOn(t, &tc.fake, Settings{})
			w := do(s.handler(), tc.request)
			if w.Code != tc.status {
				t.Errorf("status %d; want %d", w.Code, tc.status)
			}
			got := bytes.ReplaceAll(w.Body.Bytes(), []byte(s.assets.version), []byte("VERSION"))
			golden := filepath.Join("testdata", "pages", name+".html")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs from %s; run go test -update and look at the difference\n%s", tc.request.URL, golden, got)
			}
		})
	}
}

// TestPageWeight holds the page, with all that it loads, to 60 kB as it travels.
func TestPageWeight(t *testing.T) {
	s := siteOn(t, &fake{}, Settings{})
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Accept-Encoding", "gzip")
	w := do(s.handler(), r)
	if w.Header().Get("Content-Encoding") != "gzip" {
		t.Fatalf("Content-Encoding %q; want gzip", w.Header().Get("Content-Encoding"))
	}
	sum := w.Body.Len()
	for _, f := range s.assets.files {
		sum += len(f.zipped)
	}
	t.Logf("the page and all its assets: %d bytes", sum)
	if sum >= 60_000 {
		t.Errorf("the page and its assets have %d bytes; want less than 60,000", sum)
	}
}

// TestAssets holds their addresses to what they promise to caches.
func TestAssets(t *testing.T) {
	s := siteOn(t, &fake{}, Settings{})
	ours, err := s.assets.url("page.js")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct {
		status int
		cache  string
	}{
		ours:                    {200, "public, max-age=31536000, immutable"},
		"/assets/other/page.js": {200, "no-store"},
		"/assets/" + s.assets.version + "/nothing.js": {404, "no-store"},
		"/assets/" + s.assets.version + "/..%2fmain":  {404, "no-store"},
	} {
		w := do(s.handler(), httptest.NewRequest("GET", path, nil))
		if got := w.Header().Get("Cache-Control"); w.Code != want.status || got != want.cache {
			t.Errorf("GET %s: %d, Cache-Control %q; want %d, %q", path, w.Code, got, want.status, want.cache)
		}
	}
	if _, err := s.assets.url("nothing.js"); err == nil {
		t.Error("the address of an asset that is not there has no error")
	}
}

// TestHeaders holds every kind of answer to the security headers.
func TestHeaders(t *testing.T) {
	h := siteOn(t, &fake{receipt: stage.Receipt{ID: someID}}, Settings{}).handler()
	for name, r := range map[string]*http.Request{
		"page":     httptest.NewRequest("GET", "/", nil),
		"head":     httptest.NewRequest("HEAD", "/", nil),
		"accepted": postForm("email", "ada@example.com", "lat", "1", "long", "2"),
		"wrong":    postForm("email", "ada", "lat", "1", "long", "2"),
		"missing":  httptest.NewRequest("GET", "/nowhere", nil),
	} {
		w := do(h, r)
		policy := w.Header().Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: Content-Security-Policy %q", name, policy)
		}
		for header, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "X-Frame-Options": "DENY"} {
			if got := w.Header().Get(header); got != want {
				t.Errorf("%s: %s %q; want %q", name, header, got, want)
			}
		}
		if strings.Contains(w.Body.String(), "style=") || strings.Contains(w.Body.String(), "onclick") {
			t.Errorf("%s: inline style or script, which the policy forbids", name)
		}
	}
}
