package event

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// ReadPayload is UnmarshalJSON for a whole payload. One as AppendPayload writes it is read without a JSON decoder, which
// would cost as much as all else that a stage does for an event; any other is left to the decoder.
func (s *Submission) ReadPayload(b []byte) error {
	var v [3]string
	if between(b, v[:], `{"email":"`, `","lat":"`, `","long":"`, `"}`) && verbatim(v[:]...) {
		*s = Submission{Email: Address(v[0]), Lat: v[1], Long: v[2]}
		return nil
	}
	return json.Unmarshal(b, s)
}

// AppendPayload appends s as JSON.
func (s Submission) AppendPayload(b []byte) ([]byte, error) {
	if !verbatim(string(s.Email), s.Lat, s.Long) {
		return appendJSON(b, s)
	}
	b = append(append(b, `{"email":"`...), s.Email...)
	b = append(append(b, `","lat":"`...), s.Lat...)
	b = append(append(b, `","long":"`...), s.Long...)
	return append(b, `"}`...), nil
}

// ReadPayload is to Result what it is to [Submission].
func (r *Result) ReadPayload(b []byte) error {
	var v [4]string
	if between(b, v[:], `{"email":"`, `","distance_from_velocity":`, `,"lat":"`, `","long":"`, `"}`) && verbatim(v[0], v[2], v[3]) && number(v[1]) {
		if miles, err := strconv.ParseFloat(v[1], 64); err == nil {
			*r = Result{Email: Address(v[0]), Miles: miles, Lat: v[2], Long: v[3]}
			return nil
		}
	}
	return json.Unmarshal(b, r)
}

// AppendPayload appends r as JSON.
func (r Result) AppendPayload(b []byte) ([]byte, error) {
	// encoding/json writes what is smaller or larger with an exponent.
	if !(1e-6 <= r.Miles && r.Miles < 1e21) || r.Lat == "" || r.Long == "" || !verbatim(string(r.Email), r.Lat, r.Long) {
		return appendJSON(b, r)
	}
	b = append(append(b, `{"email":"`...), r.Email...)
	b = strconv.AppendFloat(append(b, `","distance_from_velocity":`...), r.Miles, 'f', -1, 64)
	b = append(append(b, `,"lat":"`...), r.Lat...)
	b = append(append(b, `","long":"`...), r.Long...)
	return append(b, `"}`...), nil
}

// AppendPayload appends s as JSON.
func (s Sent) AppendPayload(b []byte) ([]byte, error) {
	if !(1e-6 <= s.Miles && s.Miles < 1e21) || !verbatim(s.ID, string(s.Email)) {
		return appendJSON(b, s)
	}
	b = append(append(b, `{"id":"`...), s.ID...)
	b = append(append(b, `","email":"`...), s.Email...)
	b = strconv.AppendFloat(append(b, `","distance_from_velocity":`...), s.Miles, 'f', -1, 64)
	at, err := s.SentAt.MarshalJSON()
	return append(append(append(b, `,"sent_at":`...), at...), '}'), err
}

// between fills values with what stands between the parts of b, in their order, and tells whether b is that and no more.
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

// verbatim tells whether JSON writes the texts as they are: ASCII without quotes, backslashes and controls.
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

// number tells whether s is a number of JSON.
func number(s string) bool {
	return s != "" && (s[0] == '-' || '0' <= s[0] && s[0] <= '9') && json.Valid([]byte(s))
}

// appendJSON appends v as JSON without HTML escapes, so that "&" stays "&".
func appendJSON(b []byte, v any) ([]byte, error) {
	buf := bytes.NewBuffer(b)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}
