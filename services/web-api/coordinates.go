package webapi

import (
	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/services/web-api/coordinates"
)

// place turns what was typed into the two fields into decimal degrees. If it cannot, it returns the
// text unchanged, and an error for each field that is wrong.
func place(lat, long string) (string, string, []*event.FieldError) {
	p, problems := coordinates.Read(lat, long)
	if len(problems) == 0 {
		return p.Lat, p.Long, nil
	}
	var wrong []*event.FieldError
	for _, problem := range problems {
		wrong = append(wrong, &event.FieldError{Field: problem.Field, Err: problem})
	}
	return lat, long, wrong
}
