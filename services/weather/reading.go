package weather

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/golang/geo/s2"

	"github.com/milepost/milepost/pkg/cache"
)

// Weather finds temperatures in the cache or asks the provider.
type Weather struct {
	provider *Provider
	readings *cache.Cache[reading]
	places   *cache.Cache[[]Place]
}

type reading struct {
	City        string  `json:"city,omitempty"`
	Temperature float64 `json:"temperature"` // °C
}

// New returns a Weather that caches in c what p answers.
func New(c *cache.Client, p *Provider) *Weather {
	o := cache.Options{
		Name:    Name,
		TTL:     time.Hour,
		Stale:   24 * time.Hour,
		Missing: 5 * time.Minute,
		Timeout: 8 * time.Second, // all tries at the provider, with their pauses
	}
	long := o
	long.Name, long.TTL, long.Stale = "places", 24*time.Hour, 30*24*time.Hour // cities do not move
	return &Weather{p, cache.New[reading](c, o), cache.New[[]Place](c, long)}
}

// City returns the temperature in a city. The error of an unknown city wraps [cache.ErrMissing].
func (w *Weather) City(ctx context.Context, city string) (cache.Result[reading], error) {
	asked, err := normal(city)
	if err != nil {
		return cache.Result[reading]{}, err
	}
	if w.Off() || w.provider.geocoding == "" {
		return cache.Result[reading]{}, ErrOff
	}
	return get(ctx, w.readings, "city:", asked, func(ctx context.Context) (reading, error) {
		found, err := w.provider.Search(ctx, asked, 1)
		if err != nil {
			return reading{}, err
		}
		degrees, err := w.provider.Temperature(ctx, found[0].at())
		return reading{found[0].Name, degrees}, err
	})
}

// get returns what load knows of the city asked, cached for all spellings of it. If one of them was
// unknown, another is loaded all the same: the provider knows Weißenburg, not Weissenburg.
func get[T any](ctx context.Context, c *cache.Cache[T], prefix, asked string, load func(context.Context) (T, error)) (cache.Result[T], error) {
	key := fold(asked)
	r, err := c.Get(ctx, prefix+key, load)
	if exact := strings.ToLower(asked); errors.Is(err, cache.ErrMissing) && exact != key {
		return c.Get(ctx, prefix+exact, load)
	}
	return r, err
}

// At returns the temperature at the centre of the place's cell.
func (w *Weather) At(ctx context.Context, place s2.LatLng) (cache.Result[reading], error) {
	if w.Off() {
		return cache.Result[reading]{}, ErrOff
	}
	id := cell(place)
	return w.readings.Get(ctx, "cell:"+id.ToToken(), func(ctx context.Context) (reading, error) {
		degrees, err := w.provider.Temperature(ctx, id.LatLng())
		return reading{Temperature: degrees}, err
	})
}

// Off reports whether there is no provider.
func (w *Weather) Off() bool { return w.provider.forecast == "" }
