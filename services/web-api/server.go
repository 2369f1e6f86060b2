package webapi

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
)

// server has the limits of one request: a client that is slow or sends much is cut off, not waited for.
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

// handler is the routes.
func (s *site) handler() http.Handler {
	e := echo.New()
	e.HTTPErrorHandler = s.refuse
	e.Use(s.routed, secure, middleware.RecoverWithConfig(middleware.RecoverConfig{LogErrorFunc: s.recovered}), s.sameOrigin)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		e.Add(method, "/", s.form)
		e.Add(method, "/events", s.events)
		e.Add(method, "/events/:id", s.event)
		e.Add(method, "/overview", s.overview.show)
		e.Add(method, "/assets/:version/:name", s.asset)
	}
	e.POST("/distance", s.submit)
	return e
}

// secure sets the headers that every answer has. Scripts and styles come from this site's files only, so that nothing a
// visitor types can become one.
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

// sameOrigin refuses what another site makes a visitor's browser post. Programs that are no browser send neither Origin
// nor Sec-Fetch-Site and get through.
func (s *site) sameOrigin(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := s.origins.Check(c.Request()); err != nil {
			return echo.NewHTTPError(http.StatusForbidden, "this was sent by a page of another site, so nothing was done").SetInternal(err)
		}
		return next(c)
	}
}

// recovered logs a panic; the answer is a plain 500.
func (s *site) recovered(c echo.Context, err error, stack []byte) error {
	s.log.ErrorContext(c.Request().Context(), "handler panicked", "err", err, "stack", string(stack))
	return err
}

// routed tells the route to whoever observes the request, and logs it.
func (s *site) routed(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := time.Now()
		r, w := c.Request(), c.Response()
		r.Pattern = c.Path()
		if err := next(c); err != nil {
			c.Error(err) // answers it, so that the status is known here
		}
		s.log.DebugContext(r.Context(), "request", "method", r.Method, "route", r.Pattern, "status", w.Status, "bytes", w.Size, "took", time.Since(start))
		return nil
	}
}

// proxied tells whether the request comes from a trusted proxy, whose trace it then continues.
func (s *site) proxied(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && s.settings.TrustedProxies.contain(peer.Addr().Unmap().WithZone(""))
}

// refuse answers an error as a page or as JSON, as the client likes it.
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
			text = fmt.Sprintf("%s is not a method of this address; it takes %s", c.Request().Method, c.Response().Header().Get(echo.HeaderAllow))
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

// problem is the JSON of every refusal.
type problem struct {
	Error  string            `json:"error"`
	Fields map[string]string `json:"fields,omitempty"` // what is wrong with which field
}
