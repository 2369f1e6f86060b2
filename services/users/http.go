package users

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/milepost/milepost/pkg/cache"
	"github.com/milepost/milepost/pkg/event"
)

// maxIDs is how many events one request may ask about.
const maxIDs = 100

// Handler is the HTTP side of the service. With a token only requests that carry it are answered.
func (u *Users) Handler(token string, log *slog.Logger) http.Handler {
	e := echo.New()
	e.HTTPErrorHandler = func(err error, c echo.Context) { refuse(log, err, c) }
	e.Use(routed, middleware.RecoverWithConfig(middleware.RecoverConfig{LogErrorFunc: func(c echo.Context, err error, stack []byte) error {
		log.ErrorContext(c.Request().Context(), "handler panicked", "err", err, "stack", string(stack))
		return err
	}}), guard(token))
	e.GET("/users/:email", u.user)
	e.GET("/submissions", u.submissions)
	return e
}

// routed tells the route to whoever observes the request.
func routed(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		c.Request().Pattern = c.Path()
		return next(c)
	}
}

// guard asks for the token. Comparing digests takes as long for any token.
func guard(token string) echo.MiddlewareFunc {
	want := sha256.Sum256([]byte("Bearer " + token))
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
			got := sha256.Sum256([]byte(c.Request().Header.Get(echo.HeaderAuthorization)))
			if token != "" && subtle.ConstantTimeCompare(got[:], want[:]) == 0 {
				c.Response().Header().Set(echo.HeaderWWWAuthenticate, `Bearer realm="users"`)
				return echo.NewHTTPError(http.StatusUnauthorized, "this needs the bearer token that USERS_TOKEN has")
			}
			return next(c)
		}
	}
}

// user is GET /users/{email}?limit=&after=.
func (u *Users) user(c echo.Context) error {
	text := c.Param("email")
	if c.Request().URL.RawPath != "" { // echo then routes by it and leaves its escapes
		var err error
		if text, err = url.PathUnescape(text); err != nil {
			return echo.NewHTTPError(http.StatusBadRequest, "the address is not escaped as a path is")
		}
	}
	email := event.Address(text)
	if err := email.Validate(); err != nil {
		return echo.NewHTTPError(http.StatusBadRequest, err.Error())
	}
	limit := defaultLimit
	if text := c.QueryParam("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxLimit {
			return echo.NewHTTPError(http.StatusBadRequest, fmt.Sprintf("limit %q is not a number from 1 to %d", text, maxLimit))
		}
		limit = n
	}
	after, err := readPlace(c.QueryParam("after"))
	if err != nil {
		return echo.NewHTTPError(http.StatusBadRequest, err.Error())
	}
	p, err := u.Page(c.Request().Context(), email, after, limit)
	if err != nil {
		return err
	}
	return c.JSONBlob(http.StatusOK, p)
}

// submissions is GET /submissions?ids=ID,ID: those that are stored, without those that are not.
func (u *Users) submissions(c echo.Context) error {
	var ids []string
	for _, list := range c.QueryParams()["ids"] {
		for id := range strings.SplitSeq(list, ",") {
			if id == "" || len(id) > 64 {
				return echo.NewHTTPError(http.StatusBadRequest, fmt.Sprintf("%q is not an event ID", id))
			}
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
			if len(ids) > maxIDs {
				return echo.NewHTTPError(http.StatusBadRequest, fmt.Sprintf("at most %d ids are allowed", maxIDs))
			}
		}
	}
	if len(ids) == 0 {
		return echo.NewHTTPError(http.StatusBadRequest, "ids is missing: /submissions?ids=ID,ID")
	}
	all, err := u.Submissions(c.Request().Context(), ids)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, struct {
		Submissions []Submission `json:"submissions"`
	}{all})
}

// refuse answers an error as JSON with its reason.
func refuse(log *slog.Logger, err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	status, text := http.StatusInternalServerError, "something went wrong here; it was logged"
	var known *echo.HTTPError
	var failed *cache.FailedError
	switch {
	case errors.As(err, &known):
		status, text = known.Code, fmt.Sprint(known.Message)
	case errors.Is(err, cache.ErrMissing):
		status, text = http.StatusNotFound, "User not found"
	case errors.Is(err, ErrStore), errors.As(err, &failed), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		status, text = http.StatusServiceUnavailable, "the store does not answer; try again in a moment"
		c.Response().Header().Set(echo.HeaderRetryAfter, "1")
		log.WarnContext(c.Request().Context(), "not answered", "err", err)
	default:
		log.ErrorContext(c.Request().Context(), "request failed", "err", err)
	}
	if err := c.JSON(status, map[string]string{"error": text}); err != nil {
		log.Debug("answer not sent", "err", err)
	}
}
