package webapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/telemetry"
)

const seenID = "018f0000-0000-7000-8000-000000000001"

// other is a service that the overview asks, at first one that answers as users and weather do.
type other struct {
	*httptest.Server
	answer atomic.Pointer[http.HandlerFunc]
}

func startOther(t *testing.T) *other {
	t.Helper()
	o := &other{}
	o.do(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/submissions":
			fmt.Fprintf(w, `{"submissions":[{"id":%q,"distance_from_velocity":5679.9,"lat":"40.7128","long":"-74.0060","submitted_at":"2026-01-02T03:04:05Z","stored_at":"2026-01-02T03:04:06Z"}]}`, r.URL.Query().Get("ids"))
		case "/api/weather":
			_, _ = io.WriteString(w, `{"city":"","temperature":8.9,"source":"cache","stale":true,"at":"2026-01-02T03:00:00Z"}`)
		case "/api/places":
			places := `{"name":"Paris","region":"Île-de-France","country":"France","lat":48.85341,"long":2.3488},{"name":"Paris","region":"Texas","country":"United States","lat":33.66094,"long":-95.55551}`
			if !strings.HasPrefix(r.URL.Query().Get("q"), "Par") {
				places = ""
			}
			fmt.Fprintf(w, `{"places":[%s]}`, places)
		default:
			http.NotFound(w, r)
		}
	})
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*o.answer.Load())(w, r) }))
	t.Cleanup(o.Close)
	return o
}

func (o *other) do(f http.HandlerFunc) { o.answer.Store(&f) }

// askOverview calls the handler without a server between.
func askOverview(t *testing.T, h http.Handler, query string) (int, map[string]any) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/overview?"+query, nil)
	r.Header.Set("Accept", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var body map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("GET /overview?%s answered %q: %v", query, w.Body, err)
	}
	return w.Code, body
}

func overviewSite(t *testing.T, r Reads) *site {
	t.Helper()
	s, err := newSite(Deps{Office: velocity, Hosts: config.Hosts{"example.com"}, Reads: r, Admin: telemetry.NewAdmin(), Log: quiet}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOverview(t *testing.T) {
	o := startOther(t)
	h := overviewSite(t, Reads{UsersURL: config.HTTPURL(o.URL), WeatherURL: config.HTTPURL(o.URL), UsersToken: "secret"}).handler()
	submissions := []any{map[string]any{"id": seenID, "distance_from_velocity": 5679.9, "submitted_at": "2026-01-02T03:04:05Z", "stored_at": "2026-01-02T03:04:06Z"}}
	warm := map[string]any{"temperature": 8.9, "source": "cache", "stale": true, "at": "2026-01-02T03:00:00Z"}
	for query, want := range map[string]map[string]any{
		"ids=" + seenID + "&lat=40.7128&long=-74.0060": {"submissions": submissions, "weather": warm},
		"ids=" + seenID:                         {"submissions": submissions},
		"lat=40.7128&long=-74.0060":             {"weather": warm},
		"lat=40.7128%C2%B0%20N&long=74.006%20W": {"weather": warm},
	} {
		if status, got := askOverview(t, h, query); status != 200 || !reflect.DeepEqual(got, want) {
			t.Errorf("GET /overview?%s = %d %v; want %v", query, status, got, want)
		}
	}
	for _, query := range []string{"", "ids=", "ids=x", "lat=91&long=0", "lat=1", "lat=1&long=x", "ids=" + seenID + "&lat=1"} {
		if status, got := askOverview(t, h, query); status != 400 || got["error"] == "" {
			t.Errorf("GET /overview?%s = %d %v; want 400 and why", query, status, got)
		}
	}
}

// The services are asked as they want it, and one that fails leaves the other's answer.
func TestOverviewWithoutAPart(t *testing.T) {
	both := "ids=" + seenID + "&lat=40.7128&long=-74.0060"
	for name, tc := range map[string]struct {
		broken http.HandlerFunc // the users service
		why    string
	}{
		"store down":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, "the store of the users service does not answer"},
		"wrong token":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, "the users service refused the question (401)"},
		"no JSON":       {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, "the users service is away"},
		"cut off":       {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "the users service is away"},
		"late":          {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "the users service did not answer in time"},
		"a redirection": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, "the users service refused the question (302)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			users, weather := startOther(t), startOther(t)
			users.do(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "Bearer secret" || r.URL.RequestURI() != "/submissions?ids="+seenID {
					t.Errorf("users was asked %s with %v", r.URL, r.Header)
				}
				tc.broken(w, r)
			})
			h := overviewSite(t, Reads{UsersURL: config.HTTPURL(users.URL), WeatherURL: config.HTTPURL(weather.URL), UsersToken: "secret"}).handler()
			status, got := askOverview(t, h, both)
			want := []any{map[string]any{"what": "submissions", "why": tc.why}}
			if status != 200 || !reflect.DeepEqual(got["missing"], want) || got["weather"] == nil || got["submissions"] != nil {
				t.Errorf("GET /overview = %d %v; want the weather, and %v", status, got, want)
			}
		})
	}
	weather := startOther(t)
	weather.do(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	const nowhere = config.HTTPURL("http://127.0.0.1:1")
	for _, tc := range []struct {
		reads          Reads
		weather, users string
	}{
		{Reads{UsersURL: nowhere, WeatherURL: nowhere}, "the weather service is away", "the users service is away"},
		{Reads{WeatherURL: config.HTTPURL(weather.URL)}, "weather is switched off", "the users service is switched off"},
	} {
		want := map[string]any{"missing": []any{map[string]any{"what": "weather", "why": tc.weather}, map[string]any{"what": "submissions", "why": tc.users}}}
		if status, got := askOverview(t, overviewSite(t, tc.reads).handler(), both); status != 200 || !reflect.DeepEqual(got, want) {
			t.Errorf("GET /overview = %d %v; want %v", status, got, want)
		}
	}
}

// Both services are asked at the same time: each answers only once the other was asked, too.
func TestOverviewAsksAtOnce(t *testing.T) {
	o := startOther(t)
	answer := *o.answer.Load()
	var both sync.WaitGroup
	both.Add(2)
	o.do(func(w http.ResponseWriter, r *http.Request) { both.Done(); both.Wait(); answer(w, r) })
	h := overviewSite(t, Reads{UsersURL: config.HTTPURL(o.URL), WeatherURL: config.HTTPURL(o.URL)}).handler()
	if status, got := askOverview(t, h, "ids="+seenID+"&lat=1&long=1"); status != 200 || got["missing"] != nil {
		t.Errorf("GET /overview = %d %v", status, got)
	}
}

// One client has a limit of overviews at once; others are answered.
func TestOverviewLimit(t *testing.T) {
	o := startOther(t)
	asked := make(chan struct{}, maxOverviews)
	o.do(func(_ http.ResponseWriter, r *http.Request) { asked <- struct{}{}; <-r.Context().Done() })
	h := overviewSite(t, Reads{WeatherURL: config.HTTPURL(o.URL)}).handler()
	ctx, leave := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range maxOverviews {
		wg.Go(func() {
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/overview?lat=1&long=1", nil))
		})
	}
	for range maxOverviews {
		<-asked
	}
	if status, got := askOverview(t, h, "lat=1&long=1"); status != 429 {
		t.Errorf("one more overview = %d %v, want 429", status, got)
	}
	leave()
	wg.Wait()
	if status, _ := askOverview(t, h, "lat=91&long=1"); status != 400 {
		t.Errorf("an overview after they left = %d, want it looked at", status)
	}
}
