package webapi

import (
	"bytes"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/milepost/milepost/pkg/event"
)

type mainPage struct {
	Typed    typed
	Notice   string // why the submission as a whole was refused
	Wrong    []*event.FieldError
	Accepted *acceptedView

	Found found // cities, for visitors without JavaScript

	Office  string
	Samples []sample
	Map     mapView
	Blank   journey // for a card without any step
}

// acceptedView is the submission that this request made.
type acceptedView struct {
	ID, Email, Lat, Long, Name string
	Repeat                     bool
	Journey                    journey
}

// place is the place as the form's hidden field has it.
func (a acceptedView) place() string {
	if a.Name == "" {
		return ""
	}
	return a.Lat + "," + a.Long + "," + a.Name
}

type sample struct{ Name, Lat, Long string }

var samples = []sample{
	{"New York", "40.7128", "-74.0060"},
	{"Tokyo", "35.6762", "139.6503"},
	{"Sydney", "-33.8688", "151.2093"},
	{"Reykjavík", "64.1466", "-21.9426"},
	{"Nairobi", "-1.2864", "36.8172"},
	{"North Pole", "90", "0"},
}

type problemPage struct {
	Status int
	Text   string
}

// Road is the sign's second line.
func (p problemPage) Road() string {
	switch {
	case p.Status == http.StatusNotFound:
		return "This road leads nowhere."
	case p.Status < http.StatusInternalServerError:
		return "No entry."
	}
	return "Road works ahead."
}

// wayPage shows a distance: of a place that somebody shares or, with a journey, of a submission.
type wayPage struct {
	Title   string
	Map     mapView
	Journey *journey
}

// Error returns what is wrong with a field; "" if it is correct.
func (p mainPage) Error(field string) string {
	for _, w := range p.Wrong {
		if w.Field == field {
			return sentence(w.Error())
		}
	}
	return ""
}

// Title begins with the result, since screen readers read the title first.
func (p mainPage) Title() string {
	title := "How far are you from " + p.Office + "?"
	switch {
	case len(p.Wrong) > 0 || p.Notice != "":
		return "Not submitted: " + title
	case p.Accepted != nil:
		return "Submitted: " + title
	}
	return title
}

// complete adds to p what does not depend on the request, and the map.
func (s *site) complete(p mainPage) mainPage {
	p.Office, p.Samples, p.Blank = s.office.Name, samples, newJourney("", nil)
	if p.Typed.Key == "" {
		p.Typed.Key = s.newKey()
	}
	at := p.Typed
	if p.Accepted != nil {
		p.Accepted.Journey = newJourney(p.Accepted.ID, nil)
		p.Accepted.Journey.Stops[0].State = "done"
		at = typed{Lat: p.Accepted.Lat, Long: p.Accepted.Long, Place: p.Accepted.place()}
	}
	p.Map = s.mapOf(at)
	return p
}

func (s *site) mainPage(c echo.Context, status int, p mainPage) error {
	// Under no-referrer the browser posts the form with "Origin: null", and over plain HTTP
	// without Sec-Fetch-Site: sameOrigin would refuse it. No referrer goes to another site.
	c.Response().Header().Set("Referrer-Policy", "same-origin")
	if p.Accepted != nil {
		zip, b := takesGzip(c.Request()), pageBuffers.Get().(*pageBuffer)
		defer pageBuffers.Put(b)
		if body := s.fillAccepted(b, s.mount(c), p.Accepted, zip); body != nil {
			return sendAs(c, status, typeHTML+"; charset=utf-8", body, zip)
		}
	}
	return s.page(c, status, "main", s.complete(p))
}

// page answers with a template. If it fails, nothing of the page has been sent.
func (s *site) page(c echo.Context, status int, name string, data any) error {
	var b bytes.Buffer
	if err := s.mount(c).pages.ExecuteTemplate(&b, name+".html", data); err != nil {
		return fmt.Errorf("page %s: %w", name, err)
	}
	var zipped []byte
	if takesGzip(c.Request()) {
		var err error
		if zipped, err = zipFast(b.Bytes()); err != nil {
			return fmt.Errorf("page %s: %w", name, err)
		}
	}
	return send(c, status, typeHTML+"; charset=utf-8", b.Bytes(), zipped)
}
