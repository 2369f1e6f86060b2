// Package jsonapi is the HTTP frame of the services that answer in JSON only.
package jsonapi

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
)

// New returns an Echo that tells observers the route, survives a handler's panic, and answers an
// error as {"error": text}. An [echo.HTTPError] has its own status and text; explain says those of
// any other error, and logs it if operators should know.
func New(log *slog.Logger, explain func(c echo.Context, err error) (status int, text string)) *echo.Echo {
	e := echo.New()
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		if c.Response().Committed {
			return
		}
		var status int
		var text string
		if known := (*echo.HTTPError)(nil); errors.As(err, &known) {
			status, text = known.Code, fmt.Sprint(known.Message)
		} else {
			status, text = explain(c, err)
		}
		if err := c.JSON(status, map[string]string{"error": text}); err != nil {
			log.Debug("answer not sent", "err", err)
		}
	}
	e.Pre(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			TrimSlash(c.Request().URL)
			return next(c)
		}
	})
	e.Use(route, Recover(log))
	return e
}

// Recover logs a handler's panic. The answer is that of any other error.
func Recover(log *slog.Logger) echo.MiddlewareFunc {
	return middleware.RecoverWithConfig(middleware.RecoverConfig{LogErrorFunc: func(c echo.Context, err error, stack []byte) error {
		log.ErrorContext(c.Request().Context(), "handler panicked", "err", err, "stack", string(stack))
		return err
	}})
}

// TrimSlash removes a slash at the end of the path, so that it does not become part of a parameter.
func TrimSlash(u *url.URL) {
	if len(u.Path) > 1 && strings.HasSuffix(cmp.Or(u.RawPath, u.Path), "/") {
		u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), strings.TrimSuffix(u.RawPath, "/")
	}
}

func Get(e *echo.Echo, path string, h echo.HandlerFunc) {
	e.GET(path, h)
	e.HEAD(path, h)
}

func route(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		c.Request().Pattern = c.Path()
		return next(c)
	}
}

func OpenAPI(yaml []byte) echo.HandlerFunc {
	return func(c echo.Context) error { return c.Blob(http.StatusOK, "application/yaml", yaml) }
}

// BadRequest is the error of a request that the client must change.
func BadRequest(text string) error { return echo.NewHTTPError(http.StatusBadRequest, text) }

// IDs reads the parameter ids, lists of event IDs with commas, and drops repeats. parse returns an
// ID in its usual form, and false for what is none. At most so many are allowed, and at least one.
func IDs(c echo.Context, most int, parse func(string) (string, bool)) (ids []string, err error) {
	for _, list := range c.QueryParams()["ids"] {
		for word := range strings.SplitSeq(list, ",") {
			id, ok := parse(word)
			if !ok {
				return nil, BadRequest(fmt.Sprintf("%q is not an event ID", word))
			}
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
			if len(ids) > most {
				return nil, BadRequest(fmt.Sprintf("at most %d ids are allowed", most))
			}
		}
	}
	if len(ids) == 0 {
		return nil, BadRequest("ids is missing: " + c.Path() + "?ids=ID,ID")
	}
	return ids, nil
}

// Param returns the part of the path that stands for name, unescaped.
func Param(c echo.Context, name string) (string, error) {
	text := c.Param(name)
	if c.Request().URL.RawPath == "" {
		return text, nil
	}
	text, err := url.PathUnescape(text) // Echo routes by RawPath and leaves its escapes
	if err != nil {
		return "", BadRequest("the path has a wrong escape; write % as %25")
	}
	return text, nil
}
