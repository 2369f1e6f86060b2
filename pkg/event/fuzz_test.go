package event_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/mail"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/milepost/milepost/pkg/event"
)

// mayPass fails the test if an accepted address could break or forge a log line.
func mayPass(t *testing.T, a event.Address) {
	t.Helper()
	bad := func(r rune) bool { return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Cf) }
	if a == "" || len(a) > 254 || !utf8.ValidString(string(a)) || strings.ContainsFunc(string(a), bad) {
		t.Errorf("the address %q was taken", a)
	}
}

// payload is a pointer to a payload.
type payload[T any] interface {
	*T
	ReadPayload([]byte) error
	Validate() error
}

// fuzz holds ReadPayload to encoding/json. What is taken may pass and is right, and comes back as
// it was when it is written and read again.
func fuzz[T interface {
	comparable
	Validate() error
}, P payload[T]](f *testing.F, email func(T) event.Address, right func(T) bool, seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	quick := func(b []byte) (v T, err error) {
		if err := P(&v).ReadPayload(b); err != nil {
			return v, err
		}
		return v, v.Validate()
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := quick(b)
		if slow, slowErr := read[T](string(b)); slow != v || fmt.Sprint(slowErr) != fmt.Sprint(err) {
			t.Errorf("%s is read as %+v, %v; by encoding/json as %+v, %v", b, v, err, slow, slowErr)
		}
		if err != nil {
			return
		}
		mayPass(t, email(v))
		if !right(v) {
			t.Errorf("%s was taken as %+v", b, v)
		}
		written, err := json.Marshal(v)
		if again, readErr := quick(written); err != nil || readErr != nil || again != v {
			t.Errorf("%+v, written and read again, is %+v, %v, %v", v, again, err, readErr)
		}
	})
}

func FuzzSubmission(f *testing.F) {
	fuzz(f, func(s event.Submission) event.Address { return s.Email }, func(s event.Submission) bool {
		p, err := s.Point()
		return err == nil && math.Abs(p.Lat.Degrees()) <= 90
	}, `{"email":"ada@example.com","lat":"40.7128","long":"-74.0060"}`, `{"email":"ada@example.com","lat":1e0,"long":2}`,
		`{"email":"ada@example.com\n","lat":"1","long":"2"}`, `null`, `{}`, `[]`, `{"lat":{}}`, `{"email":"a@b","lat":"NaN","long":""}`)
}

func FuzzResult(f *testing.F) {
	fuzz(f, func(r event.Result) event.Address { return r.Email }, func(r event.Result) bool { return r.Miles >= 0 },
		`{"email":"ada@example.com","distance_from_velocity":5679.936314229341,"lat":"40.7128","long":"-74.0060"}`,
		`{"email":"a@b","distance_from_velocity":0}`, `{"email":"a@b","distance_from_velocity":1e308,"lat":7}`, `null`, `{"distance_from_velocity":-0}`)
}

func FuzzAddress(f *testing.F) {
	for _, s := range []string{"ada@example.com", `"a b"@c`, "a@[::1]", "a@[IPv6:::1]", "a@xn--mnchen-3ya.de", "a@MU\u0308NCHEN。de", "a\r\nb@c", "a\u0085@b", "a\u202e@b", "\xff@b", "<a@b>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if event.Address(s).Validate() != nil {
			return
		}
		mayPass(t, event.Address(s))
		if c := event.Address(s).Canonical(); c.Validate() == nil && c.Canonical() != c {
			t.Errorf("%q becomes %q, and then %q", s, c, c.Canonical())
		}
		if strings.Contains(s, "[IPv6:") {
			return // which Go's parser refuses
		}
		// Go's parser accepts it too, as an addr-spec and nothing else.
		if a, err := mail.ParseAddress("<" + s + ">"); err != nil || a.Name != "" || a.String() != "<"+s+">" {
			t.Errorf("the address %q was taken; parsed it is %v, %v", s, a, err)
		}
	})
}
