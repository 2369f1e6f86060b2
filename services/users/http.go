package users

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/milepost/milepost/pkg/cache"
	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/services/internal/jsonapi"
)

const maxIDs = 100

// description is the HTTP interface in OpenAPI.
//
//go:embed openapi.yaml
var description []byte

// Handler answers requests. If token is not "", it answers only requests that carry the token.
func (u *Users) Handler(token string, log *slog.Logger) http.Handler {
	e := jsonapi.New(log, func(c echo.Context, err error) (int, string) { return explain(log, c, err) })
	e.Use(guard(token))
	jsonapi.Get(e, "/users/:email", u.user)
	jsonapi.Get(e, "/submissions", u.submissions)
	jsonapi.Get(e, "/openapi.yaml", jsonapi.OpenAPI(description))
	return e
}

// guard asks for the token. It compares digests, so its time does not depend on the token.
func guard(token string) echo.MiddlewareFunc {
	want := sha256.Sum256([]byte(token))
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
			scheme, sent, _ := strings.Cut(c.Request().Header.Get(echo.HeaderAuthorization), " ")
			if !strings.EqualFold(scheme, "Bearer") {
				sent = ""
			}
			got := sha256.Sum256([]byte(strings.TrimLeft(sent, " ")))
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
	text, err := jsonapi.Param(c, "email")
	if err != nil {
		return err
	}
	email := event.Address(text).Canonical()
	if err := email.Validate(); err != nil {
		return jsonapi.BadRequest(err.Error())
	}
	limit := defaultLimit
	if text := c.QueryParam("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxLimit {
			return jsonapi.BadRequest(fmt.Sprintf("limit %q is not a number from 1 to %d", text, maxLimit))
		}
		limit = n
	}
	after, err := readPlace(c.QueryParam("after"))
	if err != nil {
		return jsonapi.BadRequest(err.Error())
	}
	p, err := u.Page(c.Request().Context(), email, after, limit)
	if err != nil {
		return err
	}
	return c.JSONBlob(http.StatusOK, p)
}

// submissions is GET /submissions?ids=ID,ID. It leaves out events that are not stored.
func (u *Users) submissions(c echo.Context) error {
	ids, err := jsonapi.IDs(c, maxIDs, func(id string) (string, bool) { return id, id != "" && len(id) <= 64 })
	if err != nil {
		return err
	}
	all, err := u.Submissions(c.Request().Context(), ids)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, struct {
		Submissions []Submission `json:"submissions"`
	}{all})
}

func explain(log *slog.Logger, c echo.Context, err error) (status int, text string) {
	var failed *cache.FailedError
	switch {
	case errors.Is(err, cache.ErrMissing):
		return http.StatusNotFound, "User not found"
	case errors.Is(err, ErrStore), errors.As(err, &failed), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		log.WarnContext(c.Request().Context(), "not answered", "err", err)
		c.Response().Header().Set(echo.HeaderRetryAfter, "1")
		return http.StatusServiceUnavailable, "the store does not answer; try again in a moment"
	}
	log.ErrorContext(c.Request().Context(), "request failed", "err", err)
	return http.StatusInternalServerError, "something went wrong here; it was logged"
}
