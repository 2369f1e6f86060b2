package webapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/geodesy"
	"github.com/milepost/milepost/services/internal/jsonapi"
)

// Reads says where the services are that the overview asks. One without a URL is not asked.
type Reads struct {
	UsersURL   config.HTTPURL `env:"USERS_URL" envDefault:"http://127.0.0.1:8001" help:"where the users service is, for GET /overview"`
	UsersToken string         `env:"USERS_TOKEN" secret:"yes" help:"the bearer token that users asks for; unset: none"`
	WeatherURL config.HTTPURL `env:"WEATHER_URL" envDefault:"http://127.0.0.1:8002" help:"where the weather service is, for GET /overview"`
}

// What the other services may take. Weather may have to ask its provider.
const (
	usersTimeout   = time.Second
	weatherTimeout = 2500 * time.Millisecond
	maxReply       = 1 << 20 // bytes
	maxOverviews   = 8       // of one client at once
)

// overview asks the services for reading, at the same time, over one pooled client.
type overview struct {
	Reads
	client *http.Client
	open   slots
	proxy  *proxies
	log    *slog.Logger
	parts  *prometheus.CounterVec
}

func newOverview(d Deps, p *proxies) *overview {
	o := &overview{
		parts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "milepost_overview_parts_total", Help: "Parts of overviews: those that came, and those that were missing.",
		}, []string{"part", "outcome"}),
		Reads: d.Reads, log: d.Log, open: slots{max: maxOverviews}, proxy: p,
		client: &http.Client{
			Transport: d.Admin.Transport(&http.Transport{
				DialContext:           (&net.Dialer{Timeout: time.Second, KeepAlive: 30 * time.Second}).DialContext,
				MaxConnsPerHost:       64,
				MaxIdleConnsPerHost:   64, // or a connection would be opened, and its name looked up, for most requests
				IdleConnTimeout:       60 * time.Second,
				ResponseHeaderTimeout: weatherTimeout,
			}),
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	d.Admin.Registry().MustRegister(o.parts)
	return o
}

// seen is the JSON of GET /overview: what came, and what is missing and why.
type seen struct {
	Submissions []stored  `json:"submissions,omitempty"` // those of the ids that are stored
	Weather     *warmth   `json:"weather,omitempty"`     // around the place
	Missing     []missing `json:"missing,omitempty"`
}

// stored is a submission as who has its ID may see it: neither address nor place.
type stored struct {
	ID          string    `json:"id"`
	Miles       float64   `json:"distance_from_velocity"`
	SubmittedAt time.Time `json:"submitted_at"`
	StoredAt    time.Time `json:"stored_at"`
}

type warmth struct {
	Temperature float64   `json:"temperature"` // °C
	Source      string    `json:"source"`
	Stale       bool      `json:"stale,omitempty"`
	At          time.Time `json:"at"`
}

type missing struct {
	What string `json:"what"` // "submissions" or "weather"
	Why  string `json:"why"`
}

// show is GET /overview?ids=&lat=&long=: either part may be left out.
func (o *overview) show(c echo.Context) error {
	release, err := o.open.take(c, clientName(o.proxy.client(c.Request())), time.Second,
		fmt.Sprintf("at most %d overviews of one client are made at once", maxOverviews))
	if err != nil {
		return err
	}
	defer release()
	lat, long := c.QueryParam("lat"), c.QueryParam("long")
	atPlace, ofIDs := lat != "" || long != "", c.QueryParams().Has("ids")
	if atPlace {
		var wrong []*event.FieldError
		if lat, long, wrong = place(lat, long); wrong != nil {
			return echo.NewHTTPError(http.StatusBadRequest, wrong[0].Error())
		}
		if _, err := geodesy.Parse(lat, long); err != nil {
			return echo.NewHTTPError(http.StatusBadRequest, err.Error())
		}
	}
	var ids []string
	if ofIDs {
		if ids, err = jsonapi.IDs(c, maxIDs, eventID); err != nil {
			return err
		}
	}
	if !atPlace && !ofIDs {
		return echo.NewHTTPError(http.StatusBadRequest, "say what to look at: /overview?ids=ID,ID&lat=40.7128&long=-74.0060")
	}
	ctx := c.Request().Context()
	var weather warmth
	var submissions struct{ Submissions []stored }
	var noWeather, noSubmissions error
	var asking sync.WaitGroup
	if atPlace {
		asking.Go(func() {
			noWeather = o.get(ctx, weatherTimeout, o.WeatherURL, "/api/weather?"+url.Values{"lat": {lat}, "long": {long}}.Encode(), "", &weather)
		})
	}
	if ofIDs {
		asking.Go(func() {
			noSubmissions = o.get(ctx, usersTimeout, o.UsersURL, "/submissions?ids="+strings.Join(ids, ","), o.UsersToken, &submissions)
		})
	}
	asking.Wait()
	var answer seen
	if atPlace && o.came(ctx, "weather", noWeather, &answer) {
		answer.Weather = &weather
	}
	if ofIDs && o.came(ctx, "submissions", noSubmissions, &answer) {
		answer.Submissions = submissions.Submissions
	}
	return c.JSON(http.StatusOK, answer)
}

// came counts a part and tells whether it came. If err says that it did not, it is added to
// answer.Missing.
func (o *overview) came(ctx context.Context, part string, err error, answer *seen) bool {
	if err == nil {
		o.parts.WithLabelValues(part, "came").Inc()
		return true
	}
	why := reason(part, err)
	o.parts.WithLabelValues(part, "missing").Inc()
	o.log.DebugContext(ctx, "overview without a part", "part", part, "why", why, "err", err)
	answer.Missing = append(answer.Missing, missing{part, why})
	return false
}

// refused is an answer of another service that is none.
type refused int

func (r refused) Error() string { return fmt.Sprintf("answered %d", int(r)) }

var errNotAsked = errors.New("no URL is set")

// get asks another service and decodes its answer. The deadline ends the connection, so the other
// side knows of it.
func (o *overview) get(ctx context.Context, timeout time.Duration, base config.HTTPURL, path, token string, answer any) error {
	if base == "" {
		return errNotAsked
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, string(base)+path, nil)
	if err != nil {
		return err
	}
	r.Header.Set(echo.HeaderAccept, typeJSON)
	if token != "" {
		r.Header.Set(echo.HeaderAuthorization, "Bearer "+token)
	}
	response, err := o.client.Do(r)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // without the address, which has a place in it
		}
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxReply)) // to the end, so that the connection is used again
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return refused(response.StatusCode)
	}
	return json.Unmarshal(body, answer)
}

// reason says to a visitor why a part is missing. What other systems said stays in the log.
func reason(what string, err error) string {
	service, behind := "the users service", "the store"
	if what == "weather" {
		service, behind = "the weather service", "the provider"
	}
	var status refused
	var timeout net.Error
	switch {
	case errors.Is(err, errNotAsked):
		return service + " is switched off"
	case errors.As(err, &status) && status == http.StatusServiceUnavailable && what == "weather":
		return "weather is switched off"
	case errors.As(err, &status) && status >= 502 && status <= 504:
		return behind + " of " + service + " does not answer"
	case errors.As(err, &status):
		return fmt.Sprintf("%s refused the question (%d)", service, int(status))
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return service + " did not answer in time"
	}
	return service + " is away"
}
