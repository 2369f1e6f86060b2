package users

import (
	"testing"

	"github.com/milepost/milepost/pkg/records"
)

// Whatever ?after= holds is refused or is the place that it was written for.
func FuzzPlace(f *testing.F) {
	for _, s := range []string{"", "1700000001425-ev-09980", "-", "1-", "-1-x", "x-y", "99999999999999999999-x", "+1-x", "9223372036854775807-\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := readPlace(text)
		if err != nil || text == "" {
			return
		}
		again, err := readPlace(writePlace(records.Record{SubmittedAt: p.At, ID: p.ID}))
		if err != nil || again != p {
			t.Errorf("%q is %+v; written and read again %+v, %v", text, p, again, err)
		}
	})
}
