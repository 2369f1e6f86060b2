package weather

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/golang/geo/s2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/milepost/milepost/pkg/cache"
)

// Source is the name of the provider in answers.
const Source = "open-meteo"

// Errors of a provider. An unknown city is [cache.ErrMissing].
var (
	ErrOff     = errors.New("weather is switched off")
	ErrTimeout = errors.New("the weather provider did not answer in time")
)

const (
	tryTimeout  = 2 * time.Second
	tries       = 3
	maxCalls    = 8               // at the same time
	maxAnswer   = 1 << 20         // bytes
	tolerance   = 5               // failures in a row before a rest
	restFor     = 5 * time.Second // how long the provider is not asked
	longestWait = 2 * time.Second // a longer Retry-After ends the tries
)

// Provider asks a provider with Open-Meteo's API. Its methods are safe for concurrent use. It is a
// [prometheus.Collector].
type Provider struct {
	forecast, geocoding string
	client              *http.Client
	transport           *http.Transport
	slots               chan struct{}
	backoff             time.Duration

	mu       sync.Mutex
	failures int // in a row
	resting  time.Time
	last     error

	calls   *prometheus.CounterVec
	seconds prometheus.Histogram
}

// NewProvider takes the base URLs of the two services; "" switches a service off. The caller closes
// it.
func NewProvider(forecast, geocoding string) *Provider {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: tryTimeout, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		TLSHandshakeTimeout:   tryTimeout,
		ResponseHeaderTimeout: tryTimeout,
		MaxConnsPerHost:       maxCalls,
		MaxIdleConnsPerHost:   maxCalls,
		IdleConnTimeout:       90 * time.Second,
	}
	return &Provider{
		forecast: forecast, geocoding: geocoding, transport: t, client: &http.Client{Transport: t},
		slots: make(chan struct{}, maxCalls), backoff: 100 * time.Millisecond,
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "milepost_weather_provider_calls_total", Help: "Calls to the weather provider and the geocoder, by HTTP status, or error or timeout.",
		}, []string{"service", "status"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "milepost_weather_provider_seconds", Help: "Time of a call to the provider.", Buckets: prometheus.ExponentialBuckets(0.01, 2, 9),
		}),
	}
}

// Close closes idle connections.
func (p *Provider) Close() { p.transport.CloseIdleConnections() }

// Describe is part of [prometheus.Collector].
func (p *Provider) Describe(ch chan<- *prometheus.Desc) { p.calls.Describe(ch); p.seconds.Describe(ch) }

// Collect is part of [prometheus.Collector].
func (p *Provider) Collect(ch chan<- prometheus.Metric) { p.calls.Collect(ch); p.seconds.Collect(ch) }

// Temperature returns the present temperature 2 m above the ground at a place, in °C.
func (p *Provider) Temperature(ctx context.Context, at s2.LatLng) (float64, error) {
	var answer struct {
		Current struct {
			Temperature *float64 `json:"temperature_2m"`
		} `json:"current"`
	}
	err := p.get(ctx, "forecast", p.forecast+"/v1/forecast", url.Values{
		"latitude":  {strconv.FormatFloat(at.Lat.Degrees(), 'f', 4, 64)},
		"longitude": {strconv.FormatFloat(at.Lng.Degrees(), 'f', 4, 64)},
		"current":   {"temperature_2m"},
	}, &answer)
	if err != nil {
		return 0, fmt.Errorf("ask for the temperature: %w", err)
	}
	if answer.Current.Temperature == nil {
		return 0, errors.New("ask for the temperature: the provider's answer has no temperature")
	}
	return *answer.Current.Temperature, nil
}

// Find looks a city up. The error of an unknown city wraps [cache.ErrMissing].
func (p *Provider) Find(ctx context.Context, city string) (name string, at s2.LatLng, err error) {
	var answer struct {
		Results []struct {
			Name string
			Lat  *float64 `json:"latitude"`
			Long *float64 `json:"longitude"`
		}
	}
	err = p.get(ctx, "geocoding", p.geocoding+"/v1/search", url.Values{
		"name": {city}, "count": {"1"}, "language": {"en"}, "format": {"json"},
	}, &answer)
	if err != nil {
		return "", s2.LatLng{}, fmt.Errorf("look the city up: %w", err)
	}
	if len(answer.Results) == 0 {
		return "", s2.LatLng{}, fmt.Errorf("city %q: %w", city, cache.ErrMissing)
	}
	r := answer.Results[0]
	if r.Lat == nil || r.Long == nil {
		return "", s2.LatLng{}, errors.New("look the city up: the geocoder's answer has no coordinates")
	}
	return cmp.Or(r.Name, city), s2.LatLngFromDegrees(*r.Lat, *r.Long), nil
}

// get asks up to three times, with growing pauses, while the error may pass and ctx has time. It
// decodes the answer.
func (p *Provider) get(ctx context.Context, service, address string, query url.Values, answer any) error {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return fmt.Errorf("%w: all %d calls are taken", ErrTimeout, maxCalls)
	}
	pause := p.backoff
	for n := 1; ; n++ {
		if err := p.rests(); err != nil {
			return err
		}
		err := p.try(ctx, service, address+"?"+query.Encode(), answer)
		var refused *refusal
		final := errors.As(err, &refused) && !refused.passing()
		p.note(err, final)
		if err == nil || final || n == tries {
			return err
		}
		wait := pause/2 + rand.N(pause)
		if refused != nil {
			if refused.after > longestWait {
				return err
			}
			wait = max(wait, refused.after)
		}
		pause *= 2
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// rests returns an error while the provider is not asked.
func (p *Provider) rests() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().Before(p.resting) {
		return fmt.Errorf("not asked again for a moment: %w", p.last)
	}
	return nil
}

// note counts failures in a row. After a rest one more failure starts the next.
func (p *Provider) note(err error, final bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil || final { // it answered
		p.failures = 0
		return
	}
	if p.failures++; p.failures >= tolerance {
		p.resting, p.last = time.Now().Add(restFor), err
	}
}

// refusal is an answer with another status than 200.
type refusal struct {
	status int
	reason string
	after  time.Duration
}

func (r *refusal) Error() string {
	if r.reason == "" {
		return fmt.Sprintf("the provider answered %d", r.status)
	}
	return fmt.Sprintf("the provider answered %d: %s", r.status, r.reason)
}

// passing reports whether the same question may soon be answered.
func (r *refusal) passing() bool {
	return r.status == http.StatusTooManyRequests || r.status == http.StatusRequestTimeout || r.status >= http.StatusInternalServerError
}

func (p *Provider) try(ctx context.Context, service, address string, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	start := time.Now()
	status, err := p.read(ctx, address, answer)
	if ctx.Err() != nil && err != nil {
		status, err = "timeout", ErrTimeout
	}
	p.seconds.Observe(time.Since(start).Seconds())
	p.calls.WithLabelValues(service, status).Inc()
	return err
}

// read makes one request. Its errors leave out the URL, which contains a place.
func (p *Provider) read(ctx context.Context, address string, answer any) (status string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "error", errors.New("the provider's URL is not a URL")
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "milepost")
	response, err := p.client.Do(r)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			if ue.Timeout() {
				return "timeout", ErrTimeout
			}
			err = ue.Err
		}
		return "error", fmt.Errorf("reach the provider: %w", err)
	}
	defer response.Body.Close()
	status = strconv.Itoa(response.StatusCode)
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return "error", fmt.Errorf("read the provider's answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		var told struct{ Reason string }
		_ = json.Unmarshal(body, &told) // a proxy may answer in another form
		seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
		return status, &refusal{response.StatusCode, told.Reason, time.Duration(seconds) * time.Second}
	}
	if len(body) > maxAnswer {
		return "error", errors.New("the provider's answer is too long")
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return "error", fmt.Errorf("the provider's answer is not like Open-Meteo's: %w", err)
	}
	return status, nil
}
