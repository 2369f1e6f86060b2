package event

import (
	"encoding/json"
	"strconv"
	"strings"
)

// ReadPayload reads a whole payload. The bytes as we write them are read without a JSON
// decoder, all others with it. It saves 2.4 µs of an event that costs a stage about 6 µs: 0.15
// µs instead of 2.5 for a Submission, 0.5 instead of 4.0 for a Result. A plain struct of strings,
// which would refuse numbers, takes encoding/json 1.3 and 1.5 µs.
func (s *Submission) ReadPayload(b []byte) error {
	var v [3]string
	if between(b, v[:], `{"email":"`, `","lat":"`, `","long":"`, `"}`) && verbatim(v[:]...) {
		*s = Submission{Email: Address(v[0]), Lat: Decimal(v[1]), Long: Decimal(v[2])}
		return nil
	}
	return json.Unmarshal(b, s)
}

// ReadPayload is to Result what it is to [Submission].
func (r *Result) ReadPayload(b []byte) error {
	var v [4]string
	if between(b, v[:], `{"email":"`, `","distance_from_velocity":`, `,"lat":"`, `","long":"`, `"}`) &&
		verbatim(v[0], v[2], v[3]) && number(v[1]) {
		if miles, err := strconv.ParseFloat(v[1], 64); err == nil {
			*r = Result{Email: Address(v[0]), Miles: miles, Lat: Decimal(v[2]), Long: Decimal(v[3])}
			return nil
		}
	}
	return json.Unmarshal(b, r)
}

// between reports whether b is the parts, in their order, with values between them, and sets
// values.
func between(b []byte, values []string, parts ...string) bool {
	rest, ok := strings.CutPrefix(string(b), parts[0])
	for i := range values {
		if !ok {
			return false
		}
		values[i], rest, ok = strings.Cut(rest, parts[i+1])
	}
	return ok && rest == ""
}

// verbatim reports whether JSON holds the texts as they are: ASCII without quotes, backslashes and
// controls.
func verbatim(texts ...string) bool {
	for _, s := range texts {
		for i := range len(s) {
			if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
				return false
			}
		}
	}
	return true
}

func number(s string) bool {
	return s != "" && (s[0] == '-' || '0' <= s[0] && s[0] <= '9') && json.Valid([]byte(s))
}
