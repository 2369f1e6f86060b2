package webapi

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/milepost/milepost/pkg/telemetry"
	"github.com/milepost/milepost/services/internal/jsonapi"
)

// description is the HTTP interface in OpenAPI.
//
//go:embed openapi.yaml
var description []byte

func (s *site) handler() http.Handler {
	e := echo.New()
	e.HTTPErrorHandler = s.refuse
	e.Pre(s.rooted)
	e.Use(s.routed, secure, jsonapi.Recover(s.log), s.named)
	if len(s.settings.TrustedOrigins) > 0 {
		e.Use(middleware.CORSWithConfig(middleware.CORSConfig{
			AllowOriginFunc: func(origin string) (bool, error) { return s.settings.TrustedOrigins.has(origin), nil },
			AllowMethods:    []string{http.MethodGet, http.MethodHead, http.MethodPost},
			AllowHeaders:    []string{"Accept", "Content-Type", "Idempotency-Key", "Traceparent"},
			ExposeHeaders:   []string{"Location", "Retry-After", "Idempotent-Replayed"},
			MaxAge:          7200, // seconds
		}))
	}
	e.Use(s.sameOrigin)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		e.Add(method, "/", s.form)
		e.Add(method, "/distance", s.toForm)
		e.Add(method, "/from", s.from)
		e.Add(method, "/events", s.events)
		e.Add(method, "/events/:id", s.event)
		e.Add(method, "/overview", s.overview.show)
		e.Add(method, "/cities", s.cities)
		e.Add(method, "/openapi.yaml", jsonapi.OpenAPI(description))
		e.Add(method, "/assets/:version/:name", s.asset)
	}
	e.POST("/distance", s.submit)
	return e
}

// secureHeaders are in every answer, if nothing else is set later. Scripts and styles come from
// this site's files only, so no text that a visitor types can become one. Their names are as
// http.Header has them, and their values are shared: they are replaced, never added to.
var secureHeaders = http.Header{
	"Content-Security-Policy": {"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; " +
		"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"},
	"X-Content-Type-Options":       {"nosniff"},
	"X-Frame-Options":              {"DENY"},
	"Cross-Origin-Opener-Policy":   {"same-origin"},
	"Cross-Origin-Resource-Policy": {"same-origin"},
	"Permissions-Policy":           {"geolocation=(self), camera=(), microphone=()"},
	"Referrer-Policy":              {"no-referrer"},
	"Cache-Control":                {"no-store"},
}

func secure(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		maps.Copy(c.Response().Header(), secureHeaders)
		return next(c)
	}
}

// named refuses requests for another name than the site's, in Host and in what a trusted proxy
// says: a script of another site that lets its own name lead here can send every header but Host.
func (s *site) named(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		host, said := c.Request().Host, s.proxies.said(c.Request(), "Host", "host")
		if said != "" && !strings.Contains(host, ".") {
			host = said // the proxy's name for this server, as in an upstream block of nginx
		}
		for _, host := range []string{host, said} {
			if !s.guard.Allow(host) {
				return echo.NewHTTPError(http.StatusMisdirectedRequest, telemetry.HostRefused(host))
			}
		}
		return next(c)
	}
}

// sameOrigin refuses posts that another site's page makes a browser send, except the pages of
// trusted origins. Programs other than browsers send neither Origin nor Sec-Fetch-Site and pass.
func (s *site) sameOrigin(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		origin, from := r.Header.Get(echo.HeaderOrigin), r.Header.Get("Sec-Fetch-Site")
		switch {
		case r.Method == http.MethodGet, r.Method == http.MethodHead, r.Method == http.MethodOptions,
			origin != "" && s.settings.TrustedOrigins.has(origin), from == "same-origin", from == "none", from == "" && (origin == "" || s.proxies.own(r, origin)):
			return next(c)
		}
		_, name := s.proxies.site(r)
		mend := "TRUSTED_ORIGINS=" + origin
		if peer, believed := s.proxies.peer(r); !believed && (r.Header.Get("X-Forwarded-Host") != "" || r.Header.Get("Forwarded") != "") {
			mend = "TRUSTED_PROXIES=" + peer.String()
		}
		s.log.WarnContext(r.Context(), "a post was refused: its page's origin is not this site's name; if both are yours, set the variable",
			"origin", origin, "site", name, "variable", mend)
		return echo.NewHTTPError(http.StatusForbidden, "a page of another site sent this, so nothing was done")
	}
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
	_, trusted := s.proxies.peer(r)
	return trusted
}

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
