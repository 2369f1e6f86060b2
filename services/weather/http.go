package weather

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/milepost/milepost/pkg/cache"
	"github.com/milepost/milepost/pkg/geodesy"
	"github.com/milepost/milepost/services/internal/jsonapi"
)

// Answer is the JSON of a temperature.
type Answer struct {
	City        string    `json:"city"`            // as the geocoder writes it; "" for a place
	Temperature float64   `json:"temperature"`     // °C
	Source      string    `json:"source"`          // the provider, or "cache"
	Stale       bool      `json:"stale,omitempty"` // older than an hour: the provider is down
	At          time.Time `json:"at"`              // time of the provider's answer
}

func source(r cache.Result[reading]) string {
	if r.Cached {
		return "cache"
	}
	return Source
}

// description is the HTTP interface in OpenAPI.
//
//go:embed openapi.yaml
var description []byte

func (w *Weather) Handler(log *slog.Logger) http.Handler {
	e := jsonapi.New(log, explain)
	jsonapi.Get(e, "/api/weather/:city", w.city)
	jsonapi.Get(e, "/api/weather", w.place)
	jsonapi.Get(e, "/api/places", w.search)
	jsonapi.Get(e, "/openapi.yaml", jsonapi.OpenAPI(description))
	return e
}

func (w *Weather) city(c echo.Context) error {
	city, err := jsonapi.Param(c, "city")
	if err != nil {
		return err
	}
	r, err := w.City(c.Request().Context(), city)
	return answer(c, r, err)
}

// search is GET /api/places?q=.
func (w *Weather) search(c echo.Context) error {
	places, err := w.Places(c.Request().Context(), c.QueryParam("q"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, struct {
		Places []Place `json:"places"`
	}{places})
}

func (w *Weather) place(c echo.Context) error {
	place, err := geodesy.Parse(c.QueryParam("lat"), c.QueryParam("long"))
	if err != nil {
		return jsonapi.BadRequest(fmt.Sprintf("%v; ask as /api/weather?lat=40.7128&long=-74.0060 or /api/weather/paris", err))
	}
	r, err := w.At(c.Request().Context(), place)
	return answer(c, r, err)
}

func answer(c echo.Context, r cache.Result[reading], err error) error {
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, Answer{
		City: r.Value.City, Temperature: r.Value.Temperature, Source: source(r), Stale: r.Stale, At: r.At.UTC(),
	})
}

func explain(_ echo.Context, err error) (status int, text string) {
	switch {
	case errors.Is(err, errCity):
		return http.StatusBadRequest, err.Error()
	case errors.Is(err, cache.ErrMissing):
		return http.StatusNotFound, "the geocoder knows no such city"
	case errors.Is(err, ErrOff):
		return http.StatusServiceUnavailable, err.Error()
	case errors.Is(err, ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout, err.Error()
	}
	return http.StatusBadGateway, err.Error()
}
