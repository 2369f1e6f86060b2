package event_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/geodesy"
)

// read decodes with encoding/json and checks as a stage does.
func read[T interface{ Validate() error }](payload string) (T, error) {
	var v T
	if err := json.Unmarshal([]byte(payload), &v); err != nil {
		return v, err
	}
	return v, v.Validate()
}

// wantRead wants a value or, if says is not "", an error that contains it.
func wantRead[T interface {
	comparable
	Validate() error
}](t *testing.T, payload string, want T, says string) {
	t.Helper()
	got, err := read[T](payload)
	if says == "" && (err != nil || got != want) {
		t.Fatalf("reading %s = %+v, %v; want %+v", payload, got, err, want)
	}
	if says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
		t.Errorf("reading %s = %+v, %v; want an error with %q", payload, got, err, says)
	}
}

func TestSubmission(t *testing.T) {
	ada := event.Submission{Email: "ada@example.com", Lat: "40.7128", Long: "-74.0060"}
	for name, tc := range map[string]struct {
		payload string
		want    event.Submission
		says    string // what the error contains, "" if there is none
	}{
		"as we write it":    {payload: `{"email":"ada@example.com","lat":"40.7128","long":"-74.0060"}`, want: ada},
		"numbers":           {payload: `{"email":"ada@example.com","lat":40.7128,"long":-74.0060}`, want: ada},
		"exponent kept":     {payload: `{"email":"ada@example.com","lat":4.07128e1,"long":"-74.0060"}`, want: event.Submission{Email: ada.Email, Lat: "4.07128e1", Long: ada.Long}},
		"unknown keys":      {payload: `{"id":7,"email":"ada@example.com","x":{"y":[]},"lat":"40.7128","long":"-74.0060"}`, want: ada},
		"not JSON":          {payload: `ada@example.com`, says: "invalid character"},
		"cut off":           {payload: `{"email":"ada@exa`, says: "unexpected end"},
		"empty":             {payload: ``, says: "unexpected end"},
		"null":              {payload: `null`, says: "email address is missing; latitude is missing; longitude is missing"},
		"array":             {payload: `["ada@example.com"]`, says: "cannot unmarshal array"},
		"lat missing":       {payload: `{"email":"ada@example.com","long":"0"}`, says: "latitude is missing"},
		"lat null":          {payload: `{"email":"ada@example.com","lat":null,"long":"0"}`, says: "latitude is missing"},
		"lat object":        {payload: `{"email":"ada@example.com","lat":{},"long":"0"}`, says: "cannot unmarshal object"},
		"lat true":          {payload: `{"email":"ada@example.com","lat":true,"long":"0"}`, says: "cannot unmarshal bool"},
		"lat a word":        {payload: `{"email":"ada@example.com","lat":"here","long":"0"}`, says: `latitude "here" is not a number`},
		"number too large":  {payload: `{"email":"ada@example.com","lat":1,"long":1e999}`, says: `longitude "1e999" is not a finite number`},
		"latitude 91":       {payload: `{"email":"ada@example.com","lat":91,"long":0}`, says: `latitude "91" is not in [-90, 90]`},
		"several":           {payload: `{"email":"ada","lat":"91","long":"x"}`, says: `email address is not of the form ada@example.com; latitude "91" is not in [-90, 90]; longitude "x" is not a number`},
		"bad byte":          {payload: "{\"email\":\"ad\xe9@example.com\",\"lat\":1,\"long\":1}", says: "email address is not UTF-8"},
		"half a surrogate":  {payload: `{"email":"ad\ud800@example.com","lat":1,"long":1}`, says: "email address is not UTF-8"},
		"forged log line":   {payload: `{"email":"ada@example.com\r\nroot INFO","lat":1,"long":1}`, says: "forbidden character U+000D"},
		"more than a value": {payload: `{"email":"ada@example.com","lat":1,"long":1}{}`, says: "after top-level value"},
	} {
		t.Run(name, func(t *testing.T) { wantRead(t, tc.payload, tc.want, tc.says) })
	}
}

func TestSubmissionCheck(t *testing.T) {
	s := event.Submission{Email: "ada@example.com\n", Lat: "91", Long: "74 W"}
	want := []string{"email", "lat", "long"}
	var got []string
	for _, e := range s.Check() {
		got = append(got, e.Field)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Check of %+v names %q, want %q", s, got, want)
	}
	err := s.Validate()
	for _, kind := range []error{event.ErrAddress, geodesy.ErrRange, geodesy.ErrSyntax} {
		if !errors.Is(err, kind) {
			t.Errorf("Validate of %+v = %v, which is not %v", s, err, kind)
		}
	}
	var field *event.FieldError
	if !errors.As(err, &field) || field.Field != "email" {
		t.Errorf("Validate of %+v = %v, want a FieldError of email", s, err)
	}
}

func TestResult(t *testing.T) {
	for name, tc := range map[string]struct {
		payload string
		want    event.Result
		says    string
	}{
		"as we write it": {
			payload: `{"email":"ada@example.com","distance_from_velocity":5679.936314229341,"lat":"40.7128","long":"-74.0060"}`,
			want:    event.Result{Email: "ada@example.com", Miles: 5679.936314229341, Lat: "40.7128", Long: "-74.0060"},
		},
		"without place":    {payload: `{"email":"ada@example.com","distance_from_velocity":12}`, want: event.Result{Email: "ada@example.com", Miles: 12}},
		"numbers":          {payload: `{"email":"ada@example.com","distance_from_velocity":0,"lat":1.50,"long":2}`, want: event.Result{Email: "ada@example.com", Lat: "1.50", Long: "2"}},
		"no distance":      {payload: `{"email":"ada@example.com"}`, says: "distance_from_velocity is missing"},
		"distance null":    {payload: `{"email":"ada@example.com","distance_from_velocity":null}`, says: "distance_from_velocity is missing"},
		"distance text":    {payload: `{"email":"ada@example.com","distance_from_velocity":"12"}`, says: "cannot unmarshal string"},
		"distance too far": {payload: `{"email":"ada@example.com","distance_from_velocity":1e999}`, says: "cannot unmarshal number 1e999"},
		"negative":         {payload: `{"email":"ada@example.com","distance_from_velocity":-1}`, says: "distance -1 is not a number of miles"},
		"null":             {payload: `null`, says: "distance_from_velocity is missing"},
		"bad address":      {payload: `{"email":"","distance_from_velocity":1}`, says: "email address is missing"},
		"bad place":        {payload: `{"email":"ada@example.com","distance_from_velocity":1,"lat":"91","long":"x\u0000"}`, says: `latitude "91" is not in [-90, 90]; longitude "x\x00" is not a number`},
	} {
		t.Run(name, func(t *testing.T) { wantRead(t, tc.payload, tc.want, tc.says) })
	}
	for _, miles := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if err := (event.Result{Email: "ada@example.com", Miles: miles}).Validate(); err == nil {
			t.Errorf("a distance of %v is taken", miles)
		}
	}
}

// TestWire fixes the bytes that other programs read.
func TestWire(t *testing.T) {
	for want, v := range map[string]any{
		`{"email":"ada@example.com","lat":"40.7128","long":"-74.0060"}`:                                                       event.Submission{Email: "ada@example.com", Lat: "40.7128", Long: "-74.0060"},
		`{"email":"ada@example.com","distance_from_velocity":5679.936314229341,"lat":"40.7128","long":"-74.0060"}`:            event.Result{Email: "ada@example.com", Miles: 5679.936314229341, Lat: "40.7128", Long: "-74.0060"},
		`{"email":"ada@example.com","distance_from_velocity":12}`:                                                             event.Result{Email: "ada@example.com", Miles: 12},
		`{"id":"0190b0c4","email":"ada@example.com","distance_from_velocity":0.5,"sent_at":"2026-11-21T21:36:47.180000001Z"}`: event.Sent{ID: "0190b0c4", Email: "ada@example.com", Miles: 0.5, SentAt: time.Date(2026, 11, 21, 21, 36, 47, 180000001, time.UTC)},
	} {
		if got, err := json.Marshal(v); err != nil || string(got) != want {
			t.Errorf("Marshal(%+v) = %s, %v; want %s", v, got, err, want)
		}
	}
}

// TestProgress: whoever has an event's ID sees its progress, so it must tell neither address nor
// place.
func TestProgress(t *testing.T) {
	at := time.Date(2026, 11, 21, 21, 36, 47, 0, time.UTC)
	for want, v := range map[string]interface{ Progress() any }{
		`{"miles":12.5}`:                     event.Result{Email: "ada@example.com", Miles: 12.5, Lat: "1", Long: "2"},
		`{"sent_at":"2026-11-21T21:36:47Z"}`: event.Sent{ID: "x", Email: "ada@example.com", Miles: 12.5, SentAt: at},
	} {
		if got, err := json.Marshal(v.Progress()); err != nil || string(got) != want {
			t.Errorf("Progress of %+v is %s, %v; want %s", v, got, err, want)
		}
	}
}

func TestAddress(t *testing.T) {
	long := strings.Repeat("a", 242) + "@example.com" // 254 bytes
	for _, a := range []string{
		"ada@example.com", "a@b", "ada.lovelace+tag@mail.example.co.uk", "o'brien@example.ie", "ada@[192.0.2.1]", "żółw@example.pl",
		"ada@例え.jp", "ADA@EXAMPLE.COM", "a&b@example.com", `"ada lovelace"@example.com`, long, "user@münchen.de", "user@xn--mnchen-3ya.de",
		"ada@[IPv6:2001:db8::1]", "ada@" + strings.Repeat("a", 63) + ".example", "ada@1-2--3.example",
	} {
		if err := event.Address(a).Validate(); err != nil {
			t.Errorf("Validate(%q): %v", a, err)
		}
	}
	for _, a := range []string{
		"", " ", "ada", "@example.com", "ada@", "ada@@example.com", "ada@example.com ", " ada@example.com", "ada @example.com",
		"ada..b@example.com", ".ada@example.com", "ada@example..com", "ada@example.com,bob@example.com", "a@b>,<c@d",
		"Ada <ada@example.com>", "<ada@example.com>", "ada@example.com (Ada)", "(Ada)ada@example.com", "ada@exam ple.com",
		`"ada"@example.com`, // the same as ada@example.com: one address, one spelling
		"ada@example.com\r\n21:36:47,180 root INFO Email sent to: eve@example.com", "ada@example.com\n", "ada\x00@example.com",
		"ada\x1b[2J@example.com", "ada\x7f@example.com", "ada\t@example.com", "\"ada\\\n\"@example.com",
		"ada\u0085@example.com", "ada\u009b@example.com", "ada\u2028@example.com", "ada\u2029@example.com",
		"ada\u202e@example.com", "ada\u2066@example.com", "ada\u200f@example.com", "ada\u061c@example.com",
		"ada\u200b@example.com", "\ufeffada@example.com", "ada\u00a0@example.com", "ada\u3000@example.com",
		"ada\xff@example.com", "ada\xc0\x8a@example.com", "a" + long,
		"ada\u3164@example.com", "ada@exam\u2800ple.com", "ada\ufe0f@example.com", "ada@example.com\U000e0100", "ada\u115f@example.com",
		`"x; Message: You are 1.0 miles from Velocity."@x.example`, "ada@[x; Message: y]", "ada@[::1]", "ada@[192.0.2.1", "ada@xn--a.example", "ada@-a.example",
	} {
		err := event.Address(a).Validate()
		if !errors.Is(err, event.ErrAddress) {
			t.Errorf("Validate(%q): %v, want an error that is ErrAddress", a, err)
		}
	}
}

// TestTypo: the error of a likely mistake says what to do about it.
func TestTypo(t *testing.T) {
	for a, says := range map[string]string{
		"ada@gmail'com":                               `has "'" after the @; did you mean a dot?`,
		"ada@gmail,com":                               "did you mean a dot?",
		"ada@example.com?subject=x":                   `has "?" after the domain; leave it out, with what follows`,
		"ada@example.com>":                            "leave it out",
		"ada@exam_ple.com":                            "letters, digits, hyphens and dots",
		"ada@example.com.":                            "ends with a dot",
		"ada@example..com":                            "too many dots",
		"mailto:ada@example.com":                      "leave that out",
		"ada@" + strings.Repeat("a", 64) + ".example": "a part of 64 characters between dots after the @, at most 63",
		"ada@" + strings.Repeat("ü", 60) + ".example": "at most 63",
		"ada@example.com ":                            "letters, digits",
	} {
		if err := event.Address(a).Validate(); !errors.Is(err, event.ErrAddress) || !strings.Contains(err.Error(), says) {
			t.Errorf("Validate(%q): %v, want one with %q", a, err, says)
		}
	}
}

// TestCanonical: the spellings of an address have one published form, and one mailbox.
func TestCanonical(t *testing.T) {
	for typed, want := range map[string][3]string{ // canonical, mailbox, the mailbox of limits
		"ada@example.com":               {"ada@example.com", "ada@example.com", "ada@example.com"},
		"Case@Example.COM":              {"Case@example.com", "case@example.com", "case@example.com"},
		"user@münchen.de":               {"user@münchen.de", "user@münchen.de", "user@münchen.de"},
		"user@xn--mnchen-3ya.de":        {"user@münchen.de", "user@münchen.de", "user@münchen.de"},
		"user@XN--MNCHEN-3YA.de":        {"user@münchen.de", "user@münchen.de", "user@münchen.de"},
		"user@MU\u0308NCHEN.de":         {"user@münchen.de", "user@münchen.de", "user@münchen.de"},
		"user@例え。jp":                    {"user@例え.jp", "user@例え.jp", "user@例え.jp"},
		"user@ｅｘａｍｐｌｅ.com":              {"user@example.com", "user@example.com", "user@example.com"},
		"Z\u030c@example.com":           {"Ž@example.com", "ž@example.com", "ž@example.com"},
		"Ada+News@example.com":          {"Ada+News@example.com", "ada+news@example.com", "ada@example.com"},
		"+tag@example.com":              {"+tag@example.com", "+tag@example.com", "+tag@example.com"},
		`"A+b"@example.com`:             {`"A+b"@example.com`, `"a+b"@example.com`, `"a+b"@example.com`},
		"ada@[192.0.2.1]":               {"ada@[192.0.2.1]", "ada@[192.0.2.1]", "ada@[192.0.2.1]"},
		"ada@exam\u200bple.com":         {"ada@exam\u200bple.com", "ada@exam\u200bple.com", "ada@exam\u200bple.com"}, // refused
		"no address":                    {"no address", "no address", "no address"},
		"x; Message: y\u037e@x.example": {"x; Message: y;@x.example", "x; message: y;@x.example", "x; message: y;@x.example"}, // refused
	} {
		a := event.Address(typed)
		got := [3]string{string(a.Canonical()), a.Mailbox(), a.Untagged().Mailbox()}
		if got != want {
			t.Errorf("%q is %q; want %q", typed, got, want)
		}
		if again := event.Address(got[0]).Canonical(); string(again) != got[0] {
			t.Errorf("%q becomes %q, and then %q", typed, got[0], again)
		}
		if again := event.Address(got[1]).Mailbox(); again != got[1] {
			t.Errorf("the mailbox of %q is %q, and of that %q", typed, got[1], again)
		}
	}
}

// TestNoAddressInErrors: errors go into logs, where no address belongs.
func TestNoAddressInErrors(t *testing.T) {
	for _, a := range []string{"grace.hopper", "grace.hopper@", "grace.hopper\x1b@example.org", "grace.hopper\xff@example.org", "grace.hopper@" + strings.Repeat("a", 250)} {
		err := event.Submission{Email: event.Address(a), Lat: "1", Long: "2"}.Validate()
		if err == nil || strings.Contains(err.Error(), "grace") {
			t.Errorf("Validate(%q): %v, want an error without the address", a, err)
		}
	}
}

func ExampleSubmission_Validate() {
	s := event.Submission{Email: "ada@example.com", Lat: "40,7128", Long: "-74.0060"}
	fmt.Println(s.Validate())
	s.Lat = "40.7128"
	fmt.Println(s.Validate())
	// Output:
	// latitude "40,7128" is not a number such as -74.0060
	// <nil>
}
