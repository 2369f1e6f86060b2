package webapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/geodesy"
	"github.com/milepost/milepost/pkg/stage"
)

// publishTimeout is how long a submission waits for Redis before the answer is 503.
const publishTimeout = 5 * time.Second

// form is GET /: the page, with a place filled in if the address has one (?at=40.7128,-74.0060), or
// with the matches of a city (?city=Paris).
func (s *site) form(c echo.Context) error {
	p := mainPage{Typed: typedAt(c.QueryParam("at"))}
	if p.Typed.Lat == "" {
		p.Found = s.findCity(c, c.QueryParam("city"))
	}
	return s.mainPage(c, http.StatusOK, p)
}

// from is GET /from?at=40.7128,-74.0060,New York: a page to share, with the map and the distance.
// The page with the form asks for the same in JSON, also by ?lat=&long=, as they were typed; the
// answer is 204 while they are no place.
func (s *site) from(c echo.Context) error {
	t, typing := typedAt(c.QueryParam("at")), c.QueryParams().Has("lat")
	if typing {
		t = typed{Lat: c.QueryParam("lat"), Long: c.QueryParam("long")}
	}
	m := s.mapOf(t)
	switch {
	case m.Miles != "" && prefersJSON(c.Request()):
		return c.JSON(http.StatusOK, m.spot)
	case m.Miles != "":
		return s.page(c, http.StatusOK, "way", wayPage{Title: "From " + m.From + " to " + m.Office, Map: m})
	case typing:
		return c.NoContent(http.StatusNoContent)
	}
	return echo.NewHTTPError(http.StatusNotFound, "this link names no place")
}

// typedAt is the place in an address: a pair of coordinates, with a name or without. The comma of
// 1,2 stands between two of them, else whatever a field may hold is read.
func typedAt(at string) typed {
	if lat, long, name := named(at); name != "" {
		return typed{Lat: lat, Long: long, Place: at}
	}
	lat, long, _ := strings.Cut(at, ",")
	lat, long = strings.TrimSpace(lat), strings.TrimSpace(long)
	if _, err := geodesy.Parse(lat, long); err != nil {
		var wrong []*event.FieldError
		if lat, long, wrong = place(at, ""); wrong != nil {
			return typed{}
		}
	}
	return typed{Lat: lat, Long: long}
}

// toForm is GET /distance, where a reload or a bookmark of an accepted page leads.
func (s *site) toForm(c echo.Context) error { return c.Redirect(http.StatusSeeOther, root(c)+"/") }

// submit is POST /distance. It answers 201 only after the submission is in the stream.
func (s *site) submit(c echo.Context) error {
	r := c.Request()
	in, err := readInput(c.Response(), r)
	if err != nil {
		return err
	}
	if len(in.wrong) > 0 {
		return s.reject(c, http.StatusUnprocessableEntity, in, "", in.wrong...)
	}
	submission := stage.Submission{Body: in.submission, Track: in.track, Limits: s.limits(r, in.submission)}
	if err := idempotencyKey(&submission, r, in); err != nil {
		return s.reject(c, http.StatusUnprocessableEntity, in, err.Error())
	}
	ctx, cancel := context.WithTimeout(r.Context(), publishTimeout)
	defer cancel()
	receipt, err := s.publisher.Publish(ctx, submission)
	if err != nil {
		return s.unpublished(c, in, submission.Key != "", err)
	}
	outcome := "accepted"
	if receipt.Repeat {
		outcome = "repeat"
		c.Response().Header().Set("Idempotent-Replayed", "true")
	}
	s.metrics.submissions.WithLabelValues(outcome).Inc()
	s.log.DebugContext(ctx, "submission", "event", receipt.ID, "outcome", outcome)
	c.Response().Header().Set("Location", root(c)+"/events/"+receipt.ID)
	if prefersJSON(r) {
		return c.JSON(http.StatusCreated, created{ID: receipt.ID, Repeat: receipt.Repeat})
	}
	lat, long := string(in.submission.Lat), string(in.submission.Long)
	return s.mainPage(c, http.StatusCreated, mainPage{Accepted: &acceptedView{
		ID: receipt.ID, Email: string(in.submission.Email), Lat: lat, Long: long, Name: in.typed.name(lat, long), Repeat: receipt.Repeat,
	}})
}

// created is the JSON of an accepted submission.
type created struct {
	ID     string `json:"id"`               // event ID; /events/{id} has its progress if it is tracked
	Repeat bool   `json:"repeat,omitempty"` // the idempotency key was known, so nothing was published
}

// limits returns the limits that a submission counts against: per client and minute, and per email
// address and hour, so that nobody can flood an address by changing clients. The keys in Redis hold
// a hash of the address.
func (s *site) limits(r *http.Request, sub event.Submission) []stage.Limit {
	var l []stage.Limit
	if n := s.settings.RateLimit; n > 0 {
		l = append(l, stage.Limit{Name: "client:" + clientName(s.proxies.client(r)), Max: int(n), Per: time.Minute})
	}
	if n := s.settings.AddressLimit; n > 0 {
		sum := sha256.Sum256([]byte(sub.Email.Untagged().Mailbox()))
		l = append(l, stage.Limit{Name: "address:" + hex.EncodeToString(sum[:16]), Max: int(n), Per: time.Hour})
	}
	return l
}

// unpublished answers a submission whose publish failed or whose reply was lost. Keyed: it had an
// idempotency key.
func (s *site) unpublished(c echo.Context, in input, keyed bool, err error) error {
	var over *stage.LimitError
	switch {
	case errors.As(err, &over):
		s.metrics.submissions.WithLabelValues("limited").Inc()
		wait := retryAfter(c, over.Retry)
		who := "your network"
		if strings.HasPrefix(over.Limit.Name, "address:") {
			who = "this email address"
		}
		return s.reject(c, http.StatusTooManyRequests, in, fmt.Sprintf("too many submissions for %s; try again in %s", who, wait))
	case errors.Is(err, stage.ErrKeyReused):
		s.metrics.submissions.WithLabelValues("key reused").Inc()
		return s.reject(c, http.StatusUnprocessableEntity, in, "the Idempotency-Key was used for another submission")
	case errors.Is(err, stage.ErrBacklog):
		s.metrics.submissions.WithLabelValues("backlog").Inc()
		retryAfter(c, 5*time.Second)
		return s.reject(c, http.StatusServiceUnavailable, in, "too many submissions are waiting; yours was not accepted. Try again in a few seconds")
	case errors.Is(err, stage.ErrUnavailable), errors.Is(err, stage.ErrRefused), errors.Is(err, stage.ErrClosed), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		s.metrics.submissions.WithLabelValues("unavailable").Inc()
		s.log.WarnContext(c.Request().Context(), "submission refused", "err", err)
		retryAfter(c, 2*time.Second)
		notice := "submissions cannot be accepted right now; try again in a few seconds"
		if keyed {
			notice += ". If you send the same again, it counts once"
		}
		return s.reject(c, http.StatusServiceUnavailable, in, notice)
	}
	return fmt.Errorf("publish: %w", err)
}

// retryAfter sets the header, in whole seconds, and returns the wait in words.
func retryAfter(c echo.Context, d time.Duration) string {
	seconds := max(1, int(math.Ceil(d.Seconds())))
	c.Response().Header().Set("Retry-After", strconv.Itoa(seconds))
	if seconds == 1 {
		return "a second"
	}
	if seconds < 120 {
		return fmt.Sprintf("%d seconds", seconds)
	}
	return fmt.Sprintf("%d minutes", (seconds+59)/60)
}

// reject answers a submission that was not accepted. A page keeps everything that was typed.
func (s *site) reject(c echo.Context, status int, in input, notice string, wrong ...*event.FieldError) error {
	if !prefersJSON(c.Request()) {
		return s.mainPage(c, status, mainPage{Typed: in.typed, Notice: sentence(notice), Wrong: wrong})
	}
	p := problem{Error: notice}
	if len(wrong) > 0 {
		p.Error, p.Fields = "the submission has wrong fields", map[string]string{}
		for _, w := range wrong {
			p.Fields[w.Field] = w.Error()
		}
	}
	return c.JSON(status, p)
}

// sentence turns an error's text into a sentence, with a capital letter and a full stop.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	if !strings.HasSuffix(s, "?") {
		s += "."
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
