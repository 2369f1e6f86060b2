package webapi

import (
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/milepost/milepost/services/internal/jsonapi"
)

// server returns the HTTP server. Its limits end the connection of a client that is too slow.
func (s *site) server() *http.Server {
	return &http.Server{
		Handler:           s.admin.Observe(s.handler(), s.proxied),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second, // a progress stream sets its own, write by write
		IdleTimeout:       90 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// description is the HTTP interface in OpenAPI.
//
//go:embed openapi.yaml
var description []byte

// handler returns the routes.
func (s *site) handler() http.Handler {
	e := echo.New()
	e.HTTPErrorHandler = s.refuse
	e.Use(s.routed, secure, middleware.RecoverWithConfig(middleware.RecoverConfig{LogErrorFunc: s.recovered}), s.sameOrigin)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		e.Add(method, "/", s.form)
		e.Add(method, "/events", s.events)
		e.Add(method, "/events/:id", s.event)
		e.Add(method, "/overview", s.overview.show)
		e.Add(method, "/openapi.yaml", jsonapi.OpenAPI(description))
		e.Add(method, "/assets/:version/:name", s.asset)
	}
	e.POST("/distance", s.submit)
	return e
}

// secure sets the headers of every answer. Scripts and styles come from this site's files only, so
// no text that a visitor types can become one.
func secure(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		h := c.Response().Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "+
			"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "geolocation=(self), camera=(), microphone=()")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		return next(c)
	}
}

// sameOrigin refuses posts that another site's page makes a browser send. Programs other than
// browsers send neither Origin nor Sec-Fetch-Site and pass.
func (s *site) sameOrigin(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := s.origins.Check(c.Request()); err != nil {
			return echo.NewHTTPError(http.StatusForbidden, "a page of another site sent this, so nothing was done").SetInternal(err)
		}
		return next(c)
	}
}

// recovered logs a panic. The answer is a 500 without details.
func (s *site) recovered(c echo.Context, err error, stack []byte) error {
	s.log.ErrorContext(c.Request().Context(), "handler panicked", "err", err, "stack", string(stack))
	return err
}

// routed sets the request's route for the metrics and traces, and logs the request.
func (s *site) routed(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := time.Now()
		r, w := c.Request(), c.Response()
		r.Pattern = c.Path()
		if err := next(c); err != nil {
			c.Error(err) // writes the answer now, so that the log has its status
		}
		s.log.DebugContext(r.Context(), "request", "method", r.Method, "route", r.Pattern, "status", w.Status, "bytes", w.Size, "took", time.Since(start))
		return nil
	}
}

// proxied reports whether a trusted proxy sent the request; its trace is then continued.
func (s *site) proxied(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && s.settings.TrustedProxies.contain(peer.Addr().Unmap().WithZone(""))
}

// refuse answers an error, as a page or as JSON.
func (s *site) refuse(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	status, text := http.StatusInternalServerError, "something went wrong here; it was logged"
	var known *echo.HTTPError
	if errors.As(err, &known) {
		status, text = known.Code, fmt.Sprint(known.Message)
		switch status {
		case http.StatusNotFound:
			if known.Message == http.StatusText(status) {
				text = "there is no such page"
			}
		case http.StatusMethodNotAllowed:
			text = fmt.Sprintf("this address does not accept %s, only %s", c.Request().Method, c.Response().Header().Get(echo.HeaderAllow))
		}
	}
	if status >= http.StatusInternalServerError && status != http.StatusServiceUnavailable {
		s.log.ErrorContext(c.Request().Context(), "request failed", "route", c.Path(), "err", err)
	}
	if prefersJSON(c.Request()) {
		err = c.JSON(status, problem{Error: text})
	} else {
		err = s.page(c, status, "problem", problemPage{Status: status, Text: sentence(text)})
	}
	if err != nil {
		s.log.Debug("answer not sent", "err", err)
	}
}

// problem is the JSON of every refused request.
type problem struct {
	Error  string            `json:"error"`
	Fields map[string]string `json:"fields,omitempty"` // field name to error
}
