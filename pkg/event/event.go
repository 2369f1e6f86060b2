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
	Lat   Decimal `json:"lat"`
	Long  Decimal `json:"long"`
}

// Check returns an error for each wrong field, in the order of the fields; nil if s is right.
func (s Submission) Check() []*FieldError {
	_, lat := geodesy.ParseLatitude(string(s.Lat))
	_, long := geodesy.ParseLongitude(string(s.Long))
	return fields(FieldError{"email", s.Email.Validate()}, FieldError{"lat", lat}, FieldError{"long", long})
}

// Point is the place. The error wraps those of [geodesy.Parse].
func (s Submission) Point() (geodesy.Point, error) {
	return geodesy.Parse(string(s.Lat), string(s.Long))
}

// Validate joins the errors of Check, for [errors.As]; nil if s is right.
func (s Submission) Validate() error { return join(s.Check()) }

// Result is a submission with its distance from the office. Lat and Long are empty if the stage
// that computed the distance did not pass them on.
type Result struct {
	Email Address `json:"email"`
	Miles float64 `json:"distance_from_velocity"` // statute miles
	Lat   Decimal `json:"lat,omitempty"`
	Long  Decimal `json:"long,omitempty"`
}

// UnmarshalJSON refuses a result without a distance, which would otherwise be 0 miles.
func (r *Result) UnmarshalJSON(b []byte) error {
	type plain Result
	in := struct {
		plain
		Miles *float64 `json:"distance_from_velocity"`
	}{}
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	if in.Miles == nil {
		return errors.New("distance_from_velocity is missing")
	}
	*r = Result(in.plain)
	r.Miles = *in.Miles
	return nil
}

// Validate refuses a wrong address, a distance that is negative or not a number, and coordinates
// that are set but not in range.
func (r Result) Validate() error {
	var miles, lat, long error
	if math.IsNaN(r.Miles) || math.IsInf(r.Miles, 0) || r.Miles < 0 {
		miles = fmt.Errorf("distance %v is not a number of miles", r.Miles)
	}
	if r.Lat != "" {
		_, lat = geodesy.ParseLatitude(string(r.Lat))
	}
	if r.Long != "" {
		_, long = geodesy.ParseLongitude(string(r.Long))
	}
	return join(fields(FieldError{"email", r.Email.Validate()}, FieldError{"distance_from_velocity", miles}, FieldError{"lat", lat}, FieldError{"long", long}))
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

// Decimal is the text of a decimal number. In JSON it is a string; a number is accepted and keeps
// its digits, null is empty.
type Decimal string

func (d *Decimal) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] != '"' {
		var n *json.Number
		if err := json.Unmarshal(b, &n); err != nil {
			return err
		}
		*d = ""
		if n != nil {
			*d = Decimal(*n)
		}
		return nil
	}
	return json.Unmarshal(b, (*string)(d))
}

// fields returns those that have an error.
func fields(all ...FieldError) (wrong []*FieldError) {
	for _, f := range all {
		if f.Err != nil {
			wrong = append(wrong, &FieldError{f.Field, f.Err})
		}
	}
	return wrong
}

// join is [errors.Join] on one line, for logs and dead letters.
func join(wrong []*FieldError) (all error) {
	for _, err := range wrong {
		if all == nil {
			all = err
		} else {
			all = fmt.Errorf("%w; %w", all, err)
		}
	}
	return all
}
