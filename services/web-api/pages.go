package webapi

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"

	"github.com/labstack/echo/v4"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/geodesy"
)

//go:embed templates
var templateFiles embed.FS

// pages are the templates.
type pages struct{ all *template.Template }

func openPages(a *assets) (*pages, error) {
	t, err := template.New("").Funcs(template.FuncMap{"asset": a.url}).ParseFS(templateFiles, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("open pages: %w", err)
	}
	return &pages{t}, nil
}

// mainPage is the page with the form.
type mainPage struct {
	Typed    typed
	Notice   string // what went wrong with the whole of it
	Wrong    []*event.FieldError
	Accepted *acceptedView

	Office  string
	Samples []sample
	Map     mapView
	Blank   journey // what a card looks like before anything is known
}

// acceptedView is a submission that was just taken.
type acceptedView struct {
	ID, Email, Lat, Long string
	Repeat               bool
	Journey              journey
}

// sample is a place to try.
type sample struct{ Name, Lat, Long string }

var samples = []sample{
	{"New York", "40.7128", "-74.0060"},
	{"Tokyo", "35.6762", "139.6503"},
	{"Sydney", "-33.8688", "151.2093"},
	{"Reykjavík", "64.1466", "-21.9426"},
	{"North Pole", "90", "0"},
}

// mapView is what is drawn on the land.
type mapView struct {
	Office           string
	OfficeX, OfficeY int
	OfficeLat        float64
	OfficeLong       float64
	Chosen           bool // a place is
	X, Y             int
	Line             string
	Length           string
}

// problemPage says why there is no other page.
type problemPage struct {
	Status int
	Text   string
}

// eventPage follows one submission.
type eventPage struct{ Journey journey }

// Error is what is wrong with a field, "" if nothing is.
func (p mainPage) Error(field string) string {
	for _, w := range p.Wrong {
		if w.Field == field {
			return sentence(w.Error())
		}
	}
	return ""
}

// Title says first what happened, since it is read out first.
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

// mainPage completes p and answers with it.
func (s *site) mainPage(c echo.Context, status int, p mainPage) error {
	p.Office, p.Samples, p.Blank = s.office.Name, samples, newJourney("", nil)
	if p.Typed.Key == "" {
		p.Typed.Key = s.newKey()
	}
	at := p.Typed
	if p.Accepted != nil {
		p.Accepted.Journey = newJourney(p.Accepted.ID, nil)
		p.Accepted.Journey.stops[0].State = "done"
		at = typed{Lat: p.Accepted.Lat, Long: p.Accepted.Long}
	}
	p.Map = s.mapOf(at, p.Accepted != nil)
	// The form's own posts must say where they come from: under no-referrer a browser sends "Origin: null", and where
	// it does not send Sec-Fetch-Site either (plain HTTP) they would look like another site's. Nothing leaves the site.
	c.Response().Header().Set("Referrer-Policy", "same-origin")
	return s.page(c, status, "main", p)
}

// mapOf draws the office and, if it is one, the place.
func (s *site) mapOf(t typed, measure bool) mapView {
	m := mapView{Office: s.office.Name, OfficeLat: s.office.Point.Lat.Degrees(), OfficeLong: s.office.Point.Lng.Degrees()}
	m.OfficeX, m.OfficeY = onMap(s.office.Point)
	lat, long, _ := place(t.Lat, t.Long)
	point, err := geodesy.Parse(lat, long)
	if err != nil {
		return m
	}
	m.Chosen, m.Line = true, line(s.office.Point, point)
	m.X, m.Y = onMap(point)
	if miles, err := geodesy.Miles(s.office.Point, point); err == nil && measure {
		m.Length = inMiles(miles)
	}
	return m
}

// page answers with a template, complete or not at all.
func (s *site) page(c echo.Context, status int, name string, data any) error {
	var b bytes.Buffer
	if err := s.pages.all.ExecuteTemplate(&b, name+".html", data); err != nil {
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
