package weather

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/milepost/milepost/pkg/cache"
	"github.com/milepost/milepost/pkg/geodesy"
)

// Answer is the JSON of a temperature.
type Answer struct {
	City        string    `json:"city"`            // as the geocoder writes it; "" for a place
	Temperature float64   `json:"temperature"`     // °C
	Source      string    `json:"source"`          // the provider, or "cache"
	Stale       bool      `json:"stale,omitempty"` // older than an hour, because the provider is down
	At          time.Time `json:"at"`              // when the provider was asked
}

// source is where the value is from.
func source(r cache.Result[reading]) string {
	if r.Cached {
		return "cache"
	}
	return Source
}

// Handler is the HTTP side of the service.
func (w *Weather) Handler(log *slog.Logger) http.Handler {
	e := echo.New()
	e.HTTPErrorHandler = func(err error, c echo.Context) { refuse(log, err, c) }
	e.Use(routed, middleware.RecoverWithConfig(middleware.RecoverConfig{LogErrorFunc: func(c echo.Context, err error, stack []byte) error {
		log.ErrorContext(c.Request().Context(), "handler panicked", "err", err, "stack", string(stack))
		return err
	}}))
	e.GET("/api/weather/:city", w.city)
	e.GET("/api/weather", w.place)
	return e
}

// routed tells the route to whoever observes the request.
func routed(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		c.Request().Pattern = c.Path()
		return next(c)
	}
}

func (w *Weather) city(c echo.Context) error {
	city := c.Param("city")
	if c.Request().URL.RawPath != "" { // echo then routes by it and leaves its escapes
		var err error
		if city, err = url.PathUnescape(city); err != nil {
			return echo.NewHTTPError(http.StatusBadRequest, errCity.Error())
		}
	}
	r, err := w.City(c.Request().Context(), city)
	return answer(c, r, err)
}

func (w *Weather) place(c echo.Context) error {
	place, err := geodesy.Parse(c.QueryParam("lat"), c.QueryParam("long"))
	if err != nil {
		return echo.NewHTTPError(http.StatusBadRequest, fmt.Sprintf("%v; ask as /api/weather?lat=40.7128&long=-74.0060 or /api/weather/paris", err))
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

// refuse answers an error as JSON with its reason.
func refuse(log *slog.Logger, err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	status := http.StatusBadGateway
	text := err.Error()
	var known *echo.HTTPError
	switch {
	case errors.As(err, &known):
		status, text = known.Code, fmt.Sprint(known.Message)
	case errors.Is(err, errCity):
		status = http.StatusBadRequest
	case errors.Is(err, cache.ErrMissing):
		status, text = http.StatusNotFound, "nobody knows this city"
	case errors.Is(err, ErrOff):
		status = http.StatusServiceUnavailable
	case errors.Is(err, ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		status = http.StatusGatewayTimeout
	}
	if err := c.JSON(status, map[string]string{"error": text}); err != nil {
		log.Debug("answer not sent", "err", err)
	}
}
