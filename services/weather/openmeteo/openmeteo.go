// Package openmeteo is a stand-in for Open-Meteo's forecast and geocoding services, for tests. Its
// answers are like theirs (https://open-meteo.com/en/docs,
// https://open-meteo.com/en/docs/geocoding-api), with the delays and faults that a test sets.
package openmeteo

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fault answers in place of the stand-in.
type Fault http.HandlerFunc

var (
	// Down is 503 without a body, as from a proxy.
	Down Fault = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	// Limited is 429.
	Limited Fault = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "60")
		write(w, http.StatusTooManyRequests, problem("Minutely API request limit exceeded. Please try again in one minute."))
	}
	// Hangs is no answer until the client leaves.
	Hangs Fault = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	// Cut is a connection that breaks in the middle of the answer.
	Cut Fault = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000")
		write(w, http.StatusOK, map[string]any{"current": map[string]any{"temperature_2m": 1.5}})
	}
	// Nonsense is a page instead of JSON.
	Nonsense Fault = func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("<!doctype html><title>Maintenance</title>"))
	}
	// Empty is JSON without temperature and coordinates.
	Empty Fault = func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, map[string]any{"generationtime_ms": 0.1, "results": []any{map[string]any{"name": "Nowhere"}}, "current": map[string]any{}})
	}
	// Wrong is 200 with an error.
	Wrong Fault = func(w http.ResponseWriter, _ *http.Request) { write(w, http.StatusOK, problem("Internal error")) }
)

// Server is a stand-in for both services, at its URL.
type Server struct {
	*httptest.Server

	mu      sync.Mutex
	delay   time.Duration
	fault   Fault
	queries []string
	now     int // requests under way
	most    int // at the same time
}

type City struct {
	ID              int
	Name            string
	Lat, Long       float64
	Region, Country string
	Code            string
}

// Cities are the cities by their names in lower case, the largest first.
var Cities = map[string][]City{
	"moskva":     {{524901, "Moscow", 55.75222, 37.61556, "Moscow", "Russia", "RU"}},
	"tokyo":      {{1850147, "Tokyo", 35.6895, 139.69171, "Tokyo", "Japan", "JP"}},
	"london":     {{2643743, "London", 51.50853, -0.12574, "England", "United Kingdom", "GB"}, {6058560, "London", 42.98339, -81.23304, "Ontario", "Canada", "CA"}},
	"paris":      {{2988507, "Paris", 48.85341, 2.3488, "Île-de-France", "France", "FR"}, {4717560, "Paris", 33.66094, -95.55551, "Texas", "United States", "US"}, {4303602, "Paris", 38.2098, -84.25299, "Kentucky", "United States", "US"}},
	"são paulo":  {{3448439, "São Paulo", -23.5475, -46.63611, "São Paulo", "Brazil", "BR"}},
	"πειραιάς":   {{255274, "Piraeus", 37.94203, 23.64619, "Attica", "Greece", "GR"}},
	"weißenburg": {{2812515, "Weißenburg in Bayern", 49.03095, 10.97221, "Bavaria", "Germany", "DE"}},
	"a/b":        {{1, "A/B", 1, 1, "", "", "XX"}},
}

// Start starts the stand-in, which ends with the test.
func Start(t testing.TB) *Server {
	s := &Server{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/forecast", s.answer(forecast))
	mux.HandleFunc("GET /v1/search", s.answer(search))
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// Delay sets the time that answers take.
func (s *Server) Delay(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = d
}

// Fail sets the fault of answers; nil ends it.
func (s *Server) Fail(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Queries are the requests so far: path and query.
func (s *Server) Queries() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.queries...)
}

// Most is the largest number of requests at the same time.
func (s *Server) Most() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most
}

func (s *Server) answer(f func(r *http.Request) (int, any)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.queries = append(s.queries, r.URL.String())
		s.now++
		s.most = max(s.most, s.now)
		delay, fault := s.delay, s.fault
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.now--
		}()
		select {
		case <-time.After(delay):
		case <-r.Context().Done():
			return
		}
		if fault != nil {
			fault(w, r)
			return
		}
		status, body := f(r)
		write(w, status, body)
	}
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may have left
}

func problem(reason string) any { return map[string]any{"error": true, "reason": reason} }

// Temperature is the stand-in's made-up temperature of a place, different for each cell.
func Temperature(lat, long float64) float64 {
	return math.Round(10*(30-math.Abs(lat)/2+long/100)) / 10
}

func forecast(r *http.Request) (int, any) {
	q := r.URL.Query()
	lat, laterr := strconv.ParseFloat(q.Get("latitude"), 64)
	long, longerr := strconv.ParseFloat(q.Get("longitude"), 64)
	switch {
	case laterr != nil || longerr != nil || math.Abs(lat) > 90 || math.Abs(long) > 180:
		return http.StatusBadRequest, problem(fmt.Sprintf("Latitude must be in range of -90 to 90°. Given: %s.", q.Get("latitude")))
	case q.Get("current") != "temperature_2m":
		return http.StatusBadRequest, problem("Data corrupted at path ''. Cannot initialize SurfacePressureAndHeightVariable from invalid String value.")
	}
	return http.StatusOK, map[string]any{
		"latitude": lat, "longitude": long, "generationtime_ms": 0.0259, "utc_offset_seconds": 0, "timezone": "GMT",
		"timezone_abbreviation": "GMT", "elevation": 38.0,
		"current_units": map[string]any{"time": "iso8601", "interval": "seconds", "temperature_2m": "°C"},
		"current":       map[string]any{"time": time.Now().UTC().Truncate(15 * time.Minute).Format("2006-01-02T15:04"), "interval": 900, "temperature_2m": Temperature(lat, long)},
	}
}

func search(r *http.Request) (int, any) {
	name := r.URL.Query().Get("name")
	if name == "" {
		return http.StatusBadRequest, problem("Parameter 'name' not set")
	}
	count, _ := strconv.Atoi(r.URL.Query().Get("count"))
	var results []any
	for _, known := range slices.Sorted(maps.Keys(Cities)) {
		if typed := strings.ToLower(name); known != typed && !(len(typed) > 2 && strings.HasPrefix(known, typed)) {
			continue // from three letters on, it finds beginnings
		}
		for _, city := range Cities[known] {
			results = append(results, map[string]any{
				"id": city.ID, "name": city.Name, "latitude": city.Lat, "longitude": city.Long, "elevation": 10.0, "feature_code": "PPLC",
				"country_code": city.Code, "admin1": city.Region, "timezone": "GMT", "population": 1_000_000, "country": city.Country,
			})
		}
	}
	if len(results) == 0 {
		return http.StatusOK, map[string]any{"generationtime_ms": 0.5}
	}
	return http.StatusOK, map[string]any{"generationtime_ms": 0.8, "results": results[:min(len(results), max(1, count))]}
}
