package webapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/services/internal/jsonapi"
)

const maxIDs = 50

// event is GET /events/{id}: the progress of one event, as a page, as JSON or as a stream. The ID
// is the capability to see it, so the answer has neither the address nor the coordinates.
func (s *site) event(c echo.Context) error {
	id, ok := eventID(c.Param("id"))
	if !ok {
		return errUnknownEvent
	}
	steps, err := s.known(c, id)
	if err != nil {
		return err
	}
	switch accepted(c.Request(), typeJSON, typeHTML, typeStream) {
	case typeStream:
		return s.stream(c, []string{id})
	case typeHTML:
		j := newJourney(id, steps)
		j.Waiting = j.late(s.now())
		return s.page(c, http.StatusOK, "way", wayPage{Title: "One submission", Map: s.ringOf(j.Miles), Journey: &j})
	}
	return c.JSON(http.StatusOK, newJourney(id, steps))
}

var errUnknownEvent = echo.NewHTTPError(http.StatusNotFound,
	"no progress is known for this submission; it is kept for one hour")

// events is GET /events?ids=: one stream for all events of a page, or JSON for a client that polls.
func (s *site) events(c echo.Context) error {
	ids, err := jsonapi.IDs(c, maxIDs, eventID)
	if err != nil {
		return err
	}
	if accepted(c.Request(), typeStream, typeJSON) == typeStream {
		return s.stream(c, ids)
	}
	answer := struct {
		Events []journey `json:"events"` // without unknown ones
	}{[]journey{}}
	for _, id := range ids {
		steps, err := s.known(c, id)
		if errors.Is(err, errUnknownEvent) {
			continue
		}
		if err != nil {
			return err
		}
		answer.Events = append(answer.Events, newJourney(id, steps))
	}
	return c.JSON(http.StatusOK, answer)
}

// eventID parses an event ID. It accepts only the usual form of a UUID.
func eventID(s string) (string, bool) {
	id, err := uuid.Parse(s)
	return id.String(), err == nil && len(s) == 36
}

// known reads the steps of an event. Its error is one to answer with.
func (s *site) known(c echo.Context, id string) ([]stage.Step, error) {
	ctx, cancel := context.WithTimeout(c.Request().Context(), 3*time.Second)
	defer cancel()
	steps, err := s.history.Progress(ctx, id)
	switch {
	case errors.Is(err, stage.ErrNotFound):
		return nil, errUnknownEvent
	case errors.Is(err, stage.ErrUnavailable), errors.Is(err, stage.ErrRefused), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		retryAfter(c, 2*time.Second)
		return nil, echo.NewHTTPError(http.StatusServiceUnavailable, "progress cannot be read right now; try again in a few seconds").SetInternal(err)
	case err != nil:
		return nil, fmt.Errorf("progress of %s: %w", id, err)
	}
	return steps, nil
}
