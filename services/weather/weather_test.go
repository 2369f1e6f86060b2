package weather_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang/geo/s2"
	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/cache"
	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/services/internal/jsonapi"
	"github.com/milepost/milepost/services/internal/processtest"
	"github.com/milepost/milepost/services/weather"
	"github.com/milepost/milepost/services/weather/openmeteo"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func replica(t testing.TB, broker, answers *redis.Options, provider string) processtest.Answering {
	t.Helper()
	return processtest.Answer(t, broker, answers, func(ctx context.Context, d jsonapi.Deps) error {
		return weather.Run(ctx, weather.Deps{Deps: d, Settings: weather.Settings{ProviderURL: weather.Upstream(provider), GeocodingURL: weather.Upstream(provider)}})
	})
}

func get(t testing.TB, address string) (status int, a weather.Answer, reason string) {
	t.Helper()
	var all struct {
		weather.Answer
		Error string
	}
	status = processtest.GetJSON(t, address, "", &all)
	return status, all.Answer, all.Error
}

// newYork is a place as a visitor may type it.
const newYork = "/api/weather?lat=40.7128&long=-74.0060"

func TestAnswers(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		p := openmeteo.Start(t)
		base := replica(t, o, o, p.URL).Base
		paris := openmeteo.Temperature(48.85341, 2.3488)
		for i, tc := range []struct {
			path        string
			status      int
			city        string
			temperature float64
			source      string
			calls       int // of the provider, so far
		}{
			{"/api/weather/paris", 200, "Paris", paris, "open-meteo", 2},
			{"/api/weather/paris", 200, "Paris", paris, "cache", 2},
			{"/api/weather/paris/", 200, "Paris", paris, "cache", 2},
			{"/api/weather/%20PARIS%20", 200, "Paris", paris, "cache", 2},
			{"/api/weather/s%C3%A3o%20%20paulo", 200, "São Paulo", openmeteo.Temperature(-23.5475, -46.63611), "open-meteo", 4},
			{"/api/weather/S%C3%83O+PAULO", 404, "", 0, "", 5},
			{"/api/weather/a%2Fb", 200, "A/B", openmeteo.Temperature(1, 1), "open-meteo", 7},
			{"/api/weather/a%2Fb/", 200, "A/B", openmeteo.Temperature(1, 1), "cache", 7},
			{"/api/weather/atlantis", 404, "", 0, "", 8},
			{"/api/weather/Atlantis", 404, "", 0, "", 8},
			{newYork, 200, "", 30.0 - 40.7/2 - .7, "open-meteo", 9},
			{"/api/weather?lat=40.71&long=-74.0", 200, "", 30.0 - 40.7/2 - .7, "cache", 9},
			{"/api/weather?lat=40.7128&long=285.994", 200, "", 30.0 - 40.7/2 - .7, "cache", 9},
			{"/api/weather?lat=-40.7128&long=-74.0060", 200, "", 30.0 - 40.7/2 - .7, "open-meteo", 10},
			{"/api/weather/Paris,%20TX", 200, "Paris", openmeteo.Temperature(33.66094, -95.55551), "open-meteo", 12},
			{"/api/weather/" + url.PathEscape("ΠΕΙΡΑΙΆΣ"), 404, "", 0, "", 13}, // the stand-in knows no capital Σ; it stays unknown
			{"/api/weather/%CE%A0%CE%B5%CE%B9%CF%81%CE%B1%CE%B9%CE%AC%CF%82", 200, "Piraeus", openmeteo.Temperature(37.94203, 23.64619), "open-meteo", 15},
			{"/api/weather/Wei%C3%9Fenburg", 200, "Weißenburg in Bayern", openmeteo.Temperature(49.03095, 10.97221), "open-meteo", 17},
			{"/api/weather/WEISSENBURG", 200, "Weißenburg in Bayern", openmeteo.Temperature(49.03095, 10.97221), "cache", 17},
			{"/api/weather?lat=91&long=0", 400, "", 0, "", 17},
			{"/api/weather?lat=40", 400, "", 0, "", 17},
			{"/api/weather", 400, "", 0, "", 17},
			{"/api/weather/%07", 400, "", 0, "", 17},
			{"/api/weather/" + strings.Repeat("x", 101), 400, "", 0, "", 17},
			{"/elsewhere", 404, "", 0, "", 17},
		} {
			status, a, reason := get(t, base+tc.path)
			near := a.Temperature-tc.temperature < 0.2 && tc.temperature-a.Temperature < 0.2
			if status != tc.status || a.City != tc.city || !near || a.Source != tc.source || a.Stale || len(p.Queries()) != tc.calls || (status != 200) != (reason != "") {
				t.Errorf("%d: GET %s = %d, %+v, %q after %d calls; want %+v", i, tc.path, status, a, reason, len(p.Queries()), tc)
			}
		}
	})
}

// A name finds places in the geocoder, and what follows a comma chooses among them.
func TestPlaces(t *testing.T) {
	p := openmeteo.Start(t)
	o := stagetest.Embedded(t)
	base := replica(t, o, o, p.URL).Base
	for q, want := range map[string]string{
		"paris": "Paris,FR Paris,US Paris,US", "PARIS, tx": "Paris,US", "Paris, Texas, USA": "Paris,US", "paris,united st": "Paris,US Paris,US", "Paris, France": "Paris,FR",
		"Paris, Ontario": "", "london, on": "London,CA", "London, England": "London,GB", "lon": "London,GB London,CA", "atlantis": "", "Weißenburg, DE": "Weißenburg in Bayern,DE",
	} {
		var found struct{ Places []weather.Place }
		status := processtest.GetJSON(t, base+"/api/places?q="+url.QueryEscape(q), "", &found)
		var got []string
		for _, f := range found.Places {
			got = append(got, f.Name+","+f.Code)
		}
		if status != 200 || strings.Join(got, " ") != want {
			t.Errorf("places of %q: %d, %q; want %q", q, status, got, want)
		}
	}
	calls := len(p.Queries())
	for range 2 {
		processtest.GetJSON(t, base+"/api/places?q=Paris", "", &struct{}{})
	}
	if n := len(p.Queries()); n != calls {
		t.Errorf("%d calls for places that are cached", n-calls)
	}
	// An error that comes with status 200 is no answer, and is not remembered as one.
	p.Fail(openmeteo.Wrong)
	if status, _, reason := get(t, base+"/api/weather/tokyo"); status != 502 || !strings.Contains(reason, "Internal error") {
		t.Errorf("a 200 with an error: %d %s; want 502", status, reason)
	}
	p.Fail(nil)
	stagetest.Eventually(t, "the city is found after the error", func() bool { status, _, _ := get(t, base+"/api/weather/tokyo"); return status == 200 })
}

// Whoever would ask a provider that said when to ask again waits until then.
func TestRetryAfter(t *testing.T) {
	var calls atomic.Int64
	after := "0"
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			rw.Header().Set("Retry-After", after)
			rw.WriteHeader(http.StatusTooManyRequests)
			return
		}
		_, _ = io.WriteString(rw, `{"current":{"temperature_2m":1.5}}`)
	}))
	defer server.Close()
	for _, tc := range []struct {
		after string
		calls int64 // of two requests
	}{
		{"60", 1}, {"60.5", 1}, {time.Now().Add(time.Minute).UTC().Format(http.TimeFormat), 1}, {"0.2", 3}, {"soon", 3}, {"-1", 3},
	} {
		calls.Store(0)
		after = tc.after
		w := weather.NewProvider(server.URL, server.URL)
		defer w.Close()
		for lat := range 2 {
			_, err := w.Temperature(t.Context(), s2.LatLngFromDegrees(float64(lat), 0))
			if (err == nil) != (tc.calls == 3) {
				t.Errorf("Retry-After %s: %v", tc.after, err)
			}
		}
		if n := calls.Load(); n != tc.calls {
			t.Errorf("Retry-After %s: %d calls for two requests, want %d", tc.after, n, tc.calls)
		}
		if _, err := w.Search(t.Context(), "Paris", 1); !errors.Is(err, cache.ErrMissing) { // another service
			t.Errorf("Retry-After %s of the forecast: the geocoder's answer is %v", tc.after, err)
		}
	}
}

// Only the centre of the cell leaves the process, never the typed place.
func TestCellOnly(t *testing.T) {
	p := openmeteo.Start(t)
	o := stagetest.Embedded(t)
	base := replica(t, o, o, p.URL).Base
	get(t, base+newYork)
	centre := s2.CellIDFromLatLng(s2.LatLngFromDegrees(40.7128, -74.0060)).Parent(10).LatLng()
	want := url.Values{"current": {"temperature_2m"}, "latitude": {fmt.Sprintf("%.4f", centre.Lat.Degrees())}, "longitude": {fmt.Sprintf("%.4f", centre.Lng.Degrees())}}
	if q := p.Queries(); len(q) != 1 || q[0] != "/v1/forecast?"+want.Encode() {
		t.Errorf("the provider was asked %q; want only the centre of the cell, %s", q, want.Encode())
	}
}

func TestOutage(t *testing.T) {
	for name, tc := range map[string]struct {
		fault  openmeteo.Fault
		status int
	}{
		"down":        {openmeteo.Down, 502},
		"limited":     {openmeteo.Limited, 502},
		"cut off":     {openmeteo.Cut, 502},
		"nonsense":    {openmeteo.Nonsense, 502},
		"empty":       {openmeteo.Empty, 502},
		"no answer":   {openmeteo.Hangs, 504},
		"unreachable": {nil, 502},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := openmeteo.Start(t)
			o := stagetest.Embedded(t)
			base := replica(t, o, o, p.URL).Base
			rdb := stagetest.Client(t, o)
			if status, _, _ := get(t, base+newYork); status != 200 {
				t.Fatal(status)
			}
			// As an hour later: the entry is there and no longer fresh.
			keys, err := rdb.Keys(t.Context(), "cache:weather:cell:*").Result()
			if err != nil || len(keys) != 1 {
				t.Fatal(keys, err)
			}
			old := rdb.Get(t.Context(), keys[0]).Val()
			i := strings.Index(old, `"until":`)
			stagetest.OK(t, rdb.Set(t.Context(), keys[0], old[:i]+`"until":1}`, time.Hour).Err())
			if tc.fault == nil {
				p.Close()
			}
			p.Fail(tc.fault)
			status, a, reason := get(t, base+newYork)
			if status != 200 || !a.Stale || a.Source != "cache" || a.Temperature == 0 {
				t.Errorf("with an old value: %d, %+v, %s; want it, marked stale", status, a, reason)
			}
			status, _, reason = get(t, base+"/api/weather?lat=0&long=0")
			if status != tc.status || reason == "" {
				t.Errorf("with nothing to serve: %d, %q; want %d and a reason", status, reason, tc.status)
			}
			if strings.Contains(reason, "latitude") || strings.Contains(reason, "127.0.0.1") && tc.fault != nil {
				t.Errorf("the reason %q holds the provider's address", reason)
			}
		})
	}
}

// After several failures the provider is not asked for a moment, then asked again.
func TestRest(t *testing.T) {
	p := openmeteo.Start(t)
	p.Fail(openmeteo.Down)
	w := weather.NewProvider(p.URL, p.URL)
	defer w.Close()
	for lat := range 4 {
		if _, err := w.Temperature(t.Context(), s2.LatLngFromDegrees(float64(lat), 0)); err == nil {
			t.Error("no error while the provider is down")
		}
	}
	if n := len(p.Queries()); n != 5 {
		t.Errorf("%d calls, want 5 in a row and then a rest", n)
	}
	p.Fail(nil)
	stagetest.Eventually(t, "the provider is asked again", func() bool {
		_, err := w.Temperature(t.Context(), s2.LatLngFromDegrees(1, 0))
		return err == nil
	})
}

// A process makes few calls at the same time, and all requests are answered.
func TestFewAtOnce(t *testing.T) {
	p := openmeteo.Start(t)
	p.Delay(50 * time.Millisecond)
	o := stagetest.Embedded(t)
	base := replica(t, o, o, p.URL).Base
	var wg sync.WaitGroup
	for lat := range 60 {
		wg.Go(func() {
			if status, _, reason := get(t, fmt.Sprintf("%s/api/weather?lat=%d&long=0", base, lat)); status != 200 {
				t.Errorf("GET of place %d = %d %s", lat, status, reason)
			}
		})
	}
	wg.Wait()
	if calls, most := len(p.Queries()), p.Most(); calls != 60 || most != 8 {
		t.Errorf("60 places at once caused %d calls, %d of them at the same time; want 60, and 8", calls, most)
	}
}

// An error that may pass is tried again after a growing pause, or after the provider's Retry-After.
func TestTries(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		after  string          // Retry-After
		fails  int             // of the first calls
		pauses []time.Duration // at least
		works  bool
	}{
		"once":                {503, "", 1, []time.Duration{50 * time.Millisecond}, true},
		"twice":               {500, "", 2, []time.Duration{50 * time.Millisecond, 100 * time.Millisecond}, true},
		"for good":            {502, "", 9, []time.Duration{50 * time.Millisecond, 100 * time.Millisecond}, false},
		"asked to wait":       {429, "1", 1, []time.Duration{time.Second}, true},
		"a question it hates": {400, "", 1, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var calls []time.Time
			server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				if calls = append(calls, time.Now()); len(calls) <= tc.fails {
					rw.Header().Set("Retry-After", tc.after)
					rw.WriteHeader(tc.status)
					return
				}
				_, _ = io.WriteString(rw, `{"current":{"temperature_2m":1.5}}`)
			}))
			defer server.Close()
			w := weather.NewProvider(server.URL, "")
			defer w.Close()
			degrees, err := w.Temperature(t.Context(), s2.LatLngFromDegrees(1, 0))
			if (err == nil) != tc.works || tc.works && degrees != 1.5 || len(calls) != len(tc.pauses)+1 {
				t.Fatalf("Temperature = %v, %v after %d calls; want it to work: %v, after %d", degrees, err, len(calls), tc.works, len(tc.pauses)+1)
			}
			for i, least := range tc.pauses {
				if pause := calls[i+1].Sub(calls[i]); pause < least {
					t.Errorf("pause %d was %s, want %s at least", i, pause, least)
				}
			}
		})
	}
}

// A replica that stops before the provider has answered leaves the event to another one.
func TestStageStops(t *testing.T) {
	p := openmeteo.Start(t)
	p.Fail(openmeteo.Hangs)
	c := cache.Open(stagetest.Embedded(t), "", quiet)
	defer c.Close()
	provider := weather.NewProvider(p.URL, "")
	defer provider.Close()
	w := weather.New(c, provider)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	handled := make(chan error, 1)
	go func() {
		e := stage.Event[event.Submission]{ID: "ev-1", Body: event.Submission{Email: "ada@example.com", Lat: "1", Long: "2"}}
		out, err := w.Handle(ctx, e)
		if out != nil {
			t.Errorf("Handle = %v, want no output", out)
		}
		handled <- err
	}()
	stagetest.Eventually(t, "the provider is asked", func() bool { return len(p.Queries()) > 0 })
	stop()
	if err := <-handled; !errors.Is(err, context.Canceled) {
		t.Errorf("Handle's error = %v, want %v", err, context.Canceled)
	}
}

// Without the pipeline's Redis requests are answered, and /readyz says what the stage waits for.
func TestBrokerAway(t *testing.T) {
	p := openmeteo.Start(t)
	nowhere := &redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", stagetest.FreePort(t))}
	service := replica(t, nowhere, stagetest.Embedded(t), p.URL)
	if status, _, reason := get(t, service.Base+newYork); status != 200 {
		t.Errorf("GET without a broker: %d %s", status, reason)
	}
	stagetest.Eventually(t, "readiness names what the stage waits for", func() bool {
		report, ok := service.Admin.Ready()
		return ok && strings.Contains(report, "answering requests; the stage: ")
	})
}

func TestOff(t *testing.T) {
	o := stagetest.Embedded(t)
	base := replica(t, o, o, "").Base
	for _, path := range []string{newYork, newYork, "/api/weather/paris", "/api/weather/paris"} {
		if status, _, reason := get(t, base+path); status != 503 || reason != weather.ErrOff.Error() {
			t.Errorf("GET %s = %d %q; want 503, switched off", path, status, reason)
		}
	}
}

// The stage reports the temperature of each submission once for all replicas, and caches it.
func TestStage(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		p := openmeteo.Start(t)
		service := replica(t, o, o, p.URL)
		replica(t, o, o, p.URL)
		b := service.Broker
		pub := b.Publisher("test", event.RawInput)
		defer pub.Close()
		rdb := stagetest.Client(t, o)
		publish := func() string {
			r, err := pub.Publish(t.Context(), stage.Submission{Track: true, Body: event.Submission{Email: "ada@example.com", Lat: "40.7128", Long: "-74.0060"}})
			stagetest.OK(t, err)
			return r.ID
		}
		settled := func() bool { return service.Settled(event.RawInput) }
		reports := func() []weather.Report {
			entries, err := rdb.XRange(t.Context(), event.WeatherReport, "-", "+").Result()
			stagetest.OK(t, err)
			var all []weather.Report
			for _, e := range entries {
				var r weather.Report
				stagetest.OK(t, json.Unmarshal([]byte(fmt.Sprint(e.Values["payload"])), &r))
				all = append(all, r)
			}
			return all
		}
		id := publish()
		stagetest.Eventually(t, "the report is there", func() bool { return len(reports()) == 1 })
		if r := reports()[0]; r.ID != id || r.Lat != "40.7128" || r.Long != "-74.0060" || r.Temperature < 8 || r.Temperature > 10 || r.Source != "open-meteo" {
			t.Errorf("report %+v; want that of %s", r, id)
		}
		steps, err := b.Progress(t.Context(), id)
		if err != nil || !strings.Contains(fmt.Sprintf("%s", steps), " °C") || strings.Contains(fmt.Sprintf("%s", steps), "40.7") {
			t.Errorf("progress %s, %v; want the temperature and not the place", steps, err)
		}
		if _, a, _ := get(t, service.Base+newYork); a.Source != "cache" || len(p.Queries()) != 1 {
			t.Errorf("GET after the report: %+v after %d calls; want it from the cache", a, len(p.Queries()))
		}
		for range 10 {
			publish()
		}
		stagetest.Eventually(t, "all are settled", settled)
		if n := len(reports()); n != 11 || len(p.Queries()) != 1 {
			t.Errorf("11 submissions of one place: %d reports, %d calls; want 11 and 1", n, len(p.Queries()))
		}

		// An outage of the provider is no reason to keep an event.
		p.Close()
		keys, err := rdb.Keys(t.Context(), "cache:*").Result()
		if err != nil || rdb.Del(t.Context(), keys...).Err() != nil {
			t.Fatal(keys, err)
		}
		publish()
		stagetest.Eventually(t, "the event is settled without a report", settled)
		if n := len(reports()); n != 11 {
			t.Errorf("%d reports, the last while the provider is down; want 11", n)
		}
	})
}
