package event_test

import (
	"encoding/json"
	"fmt"
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

// readPayload reads a payload as a stage does.
func readPayload[T any, P interface {
	*T
	ReadPayload([]byte) error
	Validate() error
}](payload []byte) (T, error) {
	var v T
	if err := P(&v).ReadPayload(payload); err != nil {
		return v, err
	}
	return v, P(&v).Validate()
}

// written is v as a stage publishes it.
func written(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("write %+v: %v", v, err)
	}
	return b
}

func FuzzSubmission(f *testing.F) {
	for _, s := range []string{
		`{"email":"ada@example.com","lat":"40.7128","long":"-74.0060"}`, `{"email":"ada@example.com","lat":1e0,"long":2}`,
		`{"email":"ada@example.com\n","lat":"1","long":"2"}`, `null`, `{}`, `[]`, `{"lat":{}}`, `{"email":"a@b","lat":"NaN","long":""}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		s, err := readPayload[event.Submission](payload)
		if slow, slowErr := read[event.Submission](string(payload)); slow != s || fmt.Sprint(slowErr) != fmt.Sprint(err) {
			t.Errorf("%s is read as %+v, %v; by encoding/json as %+v, %v", payload, s, err, slow, slowErr)
		}
		if err != nil {
			return
		}
		mayPass(t, s.Email)
		lat, _, err := s.Point()
		if err != nil || !(lat >= -90 && lat <= 90) {
			t.Errorf("%s was taken as %+v, whose point is %v, %v", payload, s, lat, err)
		}
		if again, err := readPayload[event.Submission](written(t, s)); err != nil || again != s {
			t.Errorf("%+v, written and read again, is %+v, %v", s, again, err)
		}
	})
}

func FuzzResult(f *testing.F) {
	for _, s := range []string{
		`{"email":"ada@example.com","distance_from_velocity":5679.936314229341,"lat":"40.7128","long":"-74.0060"}`,
		`{"email":"a@b","distance_from_velocity":0}`, `{"email":"a@b","distance_from_velocity":1e308,"lat":7}`, `null`, `{"distance_from_velocity":-0}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, err := readPayload[event.Result](payload)
		if slow, slowErr := read[event.Result](string(payload)); slow != r || fmt.Sprint(slowErr) != fmt.Sprint(err) {
			t.Errorf("%s is read as %+v, %v; by encoding/json as %+v, %v", payload, r, err, slow, slowErr)
		}
		if err != nil {
			return
		}
		mayPass(t, r.Email)
		if !(r.Miles >= 0) {
			t.Errorf("%s was taken as %v miles", payload, r.Miles)
		}
		if again, err := readPayload[event.Result](written(t, r)); err != nil || again != r {
			t.Errorf("%+v, written and read again, is %+v, %v", r, again, err)
		}
	})
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
