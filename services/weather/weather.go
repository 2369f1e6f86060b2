// Package weather answers with the temperature in a city or at a place, and reports the temperature
// of each submission's place to the pipeline. It joined the pipeline later than the other services:
// it reads the channel raw_input in a group of its own, without a change to them.
//
// It caches answers for an hour and asks a provider with Open-Meteo's API for others. Requests for
// the same place at the same time cause one call, in however many replicas. The provider gets only
// the centre of the place's S2 cell, which is about 10 km wide.
package weather

import (
	"context"
	"errors"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/services/internal/jsonapi"
)

// Name is the service's and its stage's name.
const Name = "weather"

// Settings are the operator's settings. Programs embed them in their configuration.
type Settings struct {
	ProviderURL  Upstream `env:"WEATHER_PROVIDER_URL" envDefault:"https://api.open-meteo.com" help:"the weather provider, with Open-Meteo's API (free for non-commercial use, CC BY 4.0), or off"`
	GeocodingURL Upstream `env:"GEOCODING_URL" envDefault:"https://geocoding-api.open-meteo.com" help:"the geocoder that looks up cities, with Open-Meteo's API, or off"`
}

// Upstream is the base URL of a provider; "" means off.
type Upstream string

func (u *Upstream) UnmarshalText(b []byte) error {
	if string(b) == "off" {
		*u = ""
		return nil
	}
	var h config.HTTPURL
	if err := h.UnmarshalText(b); err != nil {
		return errors.New("is not a URL such as https://api.open-meteo.com, or off")
	}
	*u = Upstream(h)
	return nil
}

type Deps struct {
	jsonapi.Deps
	Settings
}

// Run answers requests and works on raw_input until ctx ends, then drains both and returns nil. It
// answers requests also while Redis is away.
func Run(ctx context.Context, d Deps) error {
	p := NewProvider(string(d.ProviderURL), string(d.GeocodingURL))
	defer p.Close()
	w := New(d.Cache, p)
	s, err := d.Broker.New(d.Tuning.Apply(stage.Config{
		Name:     Name,
		In:       event.RawInput,
		Out:      []stage.Output{{Channel: event.WeatherReport, Unread: true}},
		Optional: true,
	}), stage.EachTo(w.Handle))
	if err != nil {
		return errors.Join(err, d.Listener.Close())
	}
	d.Admin.Registry().MustRegister(w.readings, w.places, p.calls, p.seconds)
	return d.Serve(ctx, s, w.Handler(d.Log), func() error { return nil })
}
