package weather

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/golang/geo/s2"
	"github.com/prometheus/client_golang/prometheus"
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
	longestWait = 2 * time.Second // a longer rest ends the tries
	longestRest = 15 * time.Minute
)

// Provider asks a provider with Open-Meteo's API. Its methods are safe for concurrent use.
type Provider struct {
	forecast, geocoding string
	client              *http.Client
	slots               chan struct{}
	backoff             time.Duration
	health              map[string]*health // by service

	calls   *prometheus.CounterVec
	seconds prometheus.Histogram
}

// NewProvider takes the base URLs of the two services; "" switches a service off. The caller closes
// it.
func NewProvider(forecast, geocoding string) *Provider {
	t := http.DefaultTransport.(*http.Transport).Clone() // tryTimeout ends what takes long
	t.MaxConnsPerHost, t.MaxIdleConnsPerHost = maxCalls, maxCalls
	return &Provider{
		forecast: forecast, geocoding: geocoding, client: &http.Client{Transport: t},
		slots: make(chan struct{}, maxCalls), backoff: 100 * time.Millisecond,
		health: map[string]*health{"forecast": {}, "geocoding": {}},
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "milepost_weather_provider_calls_total", Help: "Calls to the weather provider and the geocoder, by HTTP status, or error or timeout.",
		}, []string{"service", "status"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "milepost_weather_provider_seconds", Help: "Time of a call to the provider.", Buckets: prometheus.ExponentialBuckets(0.01, 2, 9),
		}),
	}
}

func (p *Provider) Close() { p.client.CloseIdleConnections() }

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

// get asks up to three times, with growing pauses, while the error may pass and ctx has time. It
// decodes the answer.
func (p *Provider) get(ctx context.Context, service, address string, query url.Values, answer any) error {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return fmt.Errorf("%w: all %d calls are taken", ErrTimeout, maxCalls)
	}
	pause, health := p.backoff, p.health[service]
	for n := 1; ; n++ {
		if err := health.rest(ctx); err != nil {
			return err
		}
		err := p.try(ctx, service, address+"?"+query.Encode(), answer)
		var refused *refusal
		final := errors.As(err, &refused) && !refused.passing()
		health.note(err, final, refused)
		if err == nil || final || n == tries {
			return err
		}
		wait := pause/2 + rand.N(pause)
		if refused != nil && refused.after > longestWait {
			return err
		}
		pause *= 2
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// health is how a service is, for all who would ask it.
type health struct {
	mu       sync.Mutex
	failures int // in a row
	resting  time.Time
	last     error
}

// rest waits until the service may be asked. If that takes too long, it returns an error at once.
func (h *health) rest(ctx context.Context) error {
	h.mu.Lock()
	wait, last := time.Until(h.resting), h.last
	h.mu.Unlock()
	if wait <= 0 {
		return nil
	}
	if wait <= longestWait {
		select {
		case <-time.After(wait):
			return nil
		case <-ctx.Done():
		}
	}
	return fmt.Errorf("not asked again for a moment: %w", last)
}

// note counts failures in a row. After a rest one more failure starts the next. A service that says
// when it wants to be asked again is not asked before.
func (h *health) note(err error, final bool, refused *refusal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil || final { // it answered
		h.failures = 0
		return
	}
	rest := time.Duration(0)
	if h.failures++; h.failures >= tolerance {
		rest = restFor
	}
	if refused != nil {
		rest = max(rest, min(refused.after, longestRest))
	}
	if until := time.Now().Add(rest); rest > 0 && until.After(h.resting) {
		h.resting, h.last = until, err
	}
}

// refusal is an answer with another status than 200, or with an error.
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
	return r.status == http.StatusOK || r.status == http.StatusTooManyRequests || r.status == http.StatusRequestTimeout || r.status >= http.StatusInternalServerError
}

// retryAfter reads the header: seconds, also with a fraction, or a time of the other side's clock.
func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && seconds > 0 {
		return time.Duration(min(seconds, longestRest.Seconds()) * float64(time.Second))
	}
	until, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return max(0, until.Sub(now))
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
	var told struct {
		Error  bool
		Reason string
	}
	_ = json.Unmarshal(body, &told) // a proxy may answer in another form
	if response.StatusCode != http.StatusOK || told.Error {
		return status, &refusal{response.StatusCode, told.Reason, retryAfter(response.Header)}
	}
	if len(body) > maxAnswer {
		return "error", errors.New("the provider's answer is too long")
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return "error", fmt.Errorf("the provider's answer is not like Open-Meteo's: %w", err)
	}
	return status, nil
}
