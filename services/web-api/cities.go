package webapi

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
)

// match is a city that a visitor may have meant.
type match struct {
	Label string `json:"label"` // name, region and country
	At    string `json:"at"`    // "latitude,longitude,name", for the form
}

// cities is GET /cities?q=: the matches of a name as JSON.
func (s *site) cities(c echo.Context) error {
	found, err := s.overview.cities(c, c.QueryParam("q"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, struct {
		Cities []match `json:"cities"`
	}{found})
}

// cities asks the weather service, which has a geocoder. Its error is one to answer with.
func (o *overview) cities(c echo.Context, city string) ([]match, error) {
	release, err := o.open.take(c, clientName(o.proxy.client(c.Request())), time.Second, "too many searches at once; try again in a second")
	if err != nil {
		return nil, err
	}
	defer release()
	var reply struct {
		Places []struct {
			Name, Region, Country string
			Lat, Long             float64
		}
	}
	err = o.get(c.Request().Context(), weatherTimeout, o.WeatherURL, "/api/places?"+url.Values{"q": {city}}.Encode(), "", &reply)
	var status refused
	switch {
	case errors.As(err, &status) && status == http.StatusBadRequest:
		return nil, echo.NewHTTPError(http.StatusBadRequest, "a city has 1 to 100 letters")
	case errors.Is(err, errNotAsked), errors.As(err, &status) && status == http.StatusServiceUnavailable:
		return nil, echo.NewHTTPError(http.StatusServiceUnavailable, "cities are not looked up here; enter latitude and longitude").SetInternal(err)
	case err != nil:
		return nil, echo.NewHTTPError(http.StatusServiceUnavailable, "cities cannot be looked up right now; enter latitude and longitude").SetInternal(err)
	}
	found := []match{}
	for _, p := range reply.Places {
		label := p.Name
		for _, more := range []string{p.Region, p.Country} {
			if more != "" && more != p.Name && placeName(label+", "+more) {
				label += ", " + more
			}
		}
		degrees := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
		found = append(found, match{label, degrees(p.Lat) + "," + degrees(p.Long) + "," + label})
	}
	return found, nil
}

// found is what the page says of the city that a visitor typed.
type found struct {
	City    string
	Matches []match
	Says    string
}

// findCity looks up what a visitor without JavaScript typed.
func (s *site) findCity(c echo.Context, city string) found {
	city = strings.TrimSpace(city)
	if city == "" {
		return found{}
	}
	matches, err := s.overview.cities(c, city)
	f := found{City: city, Matches: matches, Says: fmt.Sprintf("%d places match; choose one.", len(matches))}
	switch known := (*echo.HTTPError)(nil); {
	case errors.As(err, &known):
		f.Says = sentence(fmt.Sprint(known.Message))
	case len(matches) == 0:
		f.Says = "No city of that name is known."
	case len(matches) == 1:
		f.Says = "One place matches; choose it."
	}
	return f
}
