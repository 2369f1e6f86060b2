// Package event defines the channels of the pipeline, their payloads and the JSON of these.
//
// The payloads are a contract with programs in any language. Keys are only ever added, and readers
// ignore unknown keys. Every stage validates what it reads, because any program may publish on a
// channel.
package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/milepost/milepost/pkg/geodesy"
)

// The channels. Their names never change.
const (
	RawInput           = "raw_input"           // a Submission
	CalculatedDistance = "calculated_distance" // a Result
	UserEmail          = "user:email"          // an Address, bare, no JSON
	EmailSent          = "email:sent"          // a Sent
	WeatherReport      = "weather_report"      // a report of the weather service
)

// Channels returns all of them, in the order in which an event passes them.
func Channels() []string {
	return []string{RawInput, CalculatedDistance, UserEmail, EmailSent, WeatherReport}
}

// FieldError says what is wrong with one field of a payload.
type FieldError struct {
	Field string // its JSON key
	Err   error
}

// Error is the cause alone: it names the field in words a person understands.
func (e *FieldError) Error() string { return e.Err.Error() }

func (e *FieldError) Unwrap() error { return e.Err }

// Submission is a visitor's email address and a place, in decimal degrees as they were typed.
type Submission struct {
	Email Address `json:"email"`
	Lat   string  `json:"lat"`
	Long  string  `json:"long"`
}

// UnmarshalJSON accepts lat and long as strings or numbers, and keeps their digits.
func (s *Submission) UnmarshalJSON(b []byte) error {
	var in struct {
		Email Address `json:"email"`
		Lat   digits  `json:"lat"`
		Long  digits  `json:"long"`
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	*s = Submission{Email: in.Email, Lat: string(in.Lat), Long: string(in.Long)}
	return nil
}

// Check returns an error for each wrong field, in the order of the fields; nil if s is right.
func (s Submission) Check() []*FieldError {
	var wrong []*FieldError
	if err := s.Email.Validate(); err != nil {
		wrong = append(wrong, &FieldError{"email", err})
	}
	if _, err := geodesy.ParseLatitude(s.Lat); err != nil {
		wrong = append(wrong, &FieldError{"lat", err})
	}
	if _, err := geodesy.ParseLongitude(s.Long); err != nil {
		wrong = append(wrong, &FieldError{"long", err})
	}
	return wrong
}

// Validate joins the errors of Check, for [errors.As]; nil if s is right.
func (s Submission) Validate() error {
	var errs []error
	for _, e := range s.Check() {
		errs = append(errs, e)
	}
	return join(errs)
}

// Point returns the place in degrees. The longitude is as typed, so it may be beyond 180.
func (s Submission) Point() (lat, long float64, err error) {
	lat, laterr := geodesy.ParseLatitude(s.Lat)
	long, longerr := geodesy.ParseLongitude(s.Long)
	return lat, long, join([]error{laterr, longerr})
}

// Result is a submission with its distance from the office. Lat and Long are empty if the stage
// that computed the distance did not pass them on.
type Result struct {
	Email Address `json:"email"`
	Miles float64 `json:"distance_from_velocity"` // statute miles
	Lat   string  `json:"lat,omitempty"`
	Long  string  `json:"long,omitempty"`
}

// UnmarshalJSON accepts lat and long as [Submission] does. It refuses a result without a distance,
// which would otherwise be 0 miles.
func (r *Result) UnmarshalJSON(b []byte) error {
	var in struct {
		Email Address  `json:"email"`
		Miles *float64 `json:"distance_from_velocity"`
		Lat   digits   `json:"lat"`
		Long  digits   `json:"long"`
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	if in.Miles == nil {
		return errors.New("distance_from_velocity is missing")
	}
	*r = Result{Email: in.Email, Miles: *in.Miles, Lat: string(in.Lat), Long: string(in.Long)}
	return nil
}

// Validate refuses a wrong address, a distance that is negative or not a number, and coordinates
// that are set but not in range.
func (r Result) Validate() error {
	var errs []error
	if err := r.Email.Validate(); err != nil {
		errs = append(errs, &FieldError{"email", err})
	}
	if math.IsNaN(r.Miles) || math.IsInf(r.Miles, 0) || r.Miles < 0 {
		errs = append(errs, &FieldError{"distance_from_velocity", fmt.Errorf("distance %v is not a number of miles", r.Miles)})
	}
	if r.Lat != "" {
		if _, err := geodesy.ParseLatitude(r.Lat); err != nil {
			errs = append(errs, &FieldError{"lat", err})
		}
	}
	if r.Long != "" {
		if _, err := geodesy.ParseLongitude(r.Long); err != nil {
			errs = append(errs, &FieldError{"long", err})
		}
	}
	return join(errs)
}

// Progress is what a watcher of the event may see: the distance, but no address or coordinates.
func (r Result) Progress() any {
	return struct {
		Miles float64 `json:"miles"`
	}{r.Miles}
}

// Sent says that the line of a submission is in the log.
type Sent struct {
	ID     string    `json:"id"` // event ID
	Email  Address   `json:"email"`
	Miles  float64   `json:"distance_from_velocity"`
	SentAt time.Time `json:"sent_at"`
}

// Progress is what a watcher of the event may see: the time of the log line.
func (s Sent) Progress() any {
	return struct {
		SentAt time.Time `json:"sent_at"`
	}{s.SentAt}
}

// digits is the text of a decimal number, from a JSON string or number. It is empty for null.
type digits string

func (d *digits) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] != '"' {
		var n *json.Number
		if err := json.Unmarshal(b, &n); err != nil {
			return err
		}
		*d = ""
		if n != nil {
			*d = digits(*n)
		}
		return nil
	}
	return json.Unmarshal(b, (*string)(d))
}

// join is [errors.Join] on one line, for logs and dead letters.
func join(errs []error) error {
	var j joined
	for _, err := range errs {
		if err != nil {
			j = append(j, err)
		}
	}
	if len(j) == 0 {
		return nil
	}
	return j
}

type joined []error

func (j joined) Error() string {
	s := j[0].Error()
	for _, err := range j[1:] {
		s += "; " + err.Error()
	}
	return s
}

func (j joined) Unwrap() []error { return j }
