package webapi

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/services/web-api/coordinates"
)

const (
	maxBody = 64 << 10 // bytes in a request's body; a submission has a few hundred
	maxKey  = 255      // bytes in an idempotency key
)

// typed is a form as it was sent, correct or not.
type typed struct {
	Email, Lat, Long string
	Place            string // a place that was chosen by its name: "latitude,longitude,name"
	Key              string // the hidden one-time key
}

// name is the name of the chosen place, or "" if it is not at lat and long.
func (t typed) name(lat, long string) string {
	if atLat, atLong, name := named(t.Place); atLat == lat && atLong == long {
		return name
	}
	return ""
}

const maxPlaceName = 80 // characters

// placeName reports whether a place may have this name. A regular expression of these classes of
// characters would hold 3 MB.
func placeName(s string) bool {
	n := 0
	for _, r := range s {
		letter := unicode.IsLetter(r)
		if n++; n > maxPlaceName || !letter && (n == 1 || !unicode.In(r, unicode.M, unicode.N) && !strings.ContainsRune(" .,'’()/-", r)) {
			return false
		}
	}
	return n > 0
}

// named splits "latitude,longitude,name". The name is "" if there is none, or if it is no place's.
func named(place string) (lat, long, name string) {
	if place == "" {
		return "", "", ""
	}
	parts := strings.SplitN(place, ",", 3)
	if len(parts) < 3 || !placeName(parts[2]) {
		return "", "", ""
	}
	return parts[0], parts[1], parts[2]
}

type input struct {
	typed      typed
	submission event.Submission
	wrong      []*event.FieldError // in the order of the fields
	track      bool                // record its progress
}

// readInput reads a form or JSON. If the body cannot be read, the error is an [echo.HTTPError]. It
// panics with [http.ErrAbortHandler] if the sender is gone.
func readInput(w http.ResponseWriter, r *http.Request) (input, error) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		kind = ""
	}
	switch kind {
	case "application/x-www-form-urlencoded", "multipart/form-data", typeJSON:
	default:
		return input{}, echo.NewHTTPError(http.StatusUnsupportedMediaType,
			"the body must be application/x-www-form-urlencoded, multipart/form-data or application/json")
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		w.Header().Set("Accept-Encoding", "identity")
		return input{}, echo.NewHTTPError(http.StatusUnsupportedMediaType, fmt.Sprintf("the body must not be encoded; its Content-Encoding is %q", coding))
	}
	if r.ContentLength > maxBody {
		return input{}, tooMuch() // before any of it is read
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return input{}, tooMuch()
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		w.Header().Set("Connection", "close")
		return input{}, echo.NewHTTPError(http.StatusRequestTimeout, "the body came too slowly").SetInternal(err)
	} else if errors.Is(err, io.ErrUnexpectedEOF) {
		// The sender has died, or a proxy has lost it. A proxy would pass a 400 on, and
		// the client would think that its submission is wrong. After a broken connection
		// it tries again.
		panic(http.ErrAbortHandler)
	} else if err != nil {
		return input{}, echo.NewHTTPError(http.StatusBadRequest, "the body cannot be read").SetInternal(err)
	}
	switch kind {
	case typeJSON:
		return readJSON(body)
	case "multipart/form-data":
		form, err := readMultipart(body, params["boundary"])
		if err != nil {
			return input{}, err
		}
		return readForm(form), nil
	default:
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return input{}, echo.NewHTTPError(http.StatusBadRequest, "the body is not a form").SetInternal(err)
		}
		return readForm(form), nil
	}
}

func tooMuch() error {
	return echo.NewHTTPError(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes", maxBody))
}

// readForm reads what people type: the place in any of the forms that [place] reads.
func readForm(form url.Values) input {
	in := input{track: true, typed: typed{
		Email: form.Get("email"), Lat: form.Get("lat"), Long: form.Get("long"), Place: form.Get("place"), Key: form.Get("idempotency_key"),
	}}
	in.submission.Email = event.Address(strings.Trim(in.typed.Email, " \t")).Canonical()
	lat, long, wrong := place(in.typed.Lat, in.typed.Long)
	in.submission.Lat, in.submission.Long = event.Decimal(lat), event.Decimal(long)
	in.check(wrong)
	return in
}

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

// readJSON reads what programs send: decimal degrees only.
func readJSON(body []byte) (input, error) {
	var sent struct {
		event.Submission
		Track bool `json:"track"`
	}
	if err := json.Unmarshal(body, &sent); err != nil {
		return input{}, echo.NewHTTPError(http.StatusBadRequest, "the body is not the JSON of a submission: "+jsonError(err)).SetInternal(err)
	}
	in := input{
		typed:      typed{Email: string(sent.Email), Lat: string(sent.Lat), Long: string(sent.Long)},
		submission: sent.Submission, track: sent.Track,
	}
	in.submission.Email = sent.Email.Canonical()
	in.check(nil)
	return in, nil
}

// check notes what is wrong with the submission, one error a field. place is what is wrong with the
// place as it was typed; it says more than what the submission says of the same text.
func (in *input) check(place []*event.FieldError) {
	in.wrong = slices.DeleteFunc(in.submission.Check(), func(e *event.FieldError) bool {
		return len(place) > 0 && e.Field != "email"
	})
	in.wrong = append(in.wrong, place...)
}

func jsonError(err error) string {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) && kind.Field != "" {
		return fmt.Sprintf("%s cannot be a %s", kind.Field, kind.Value)
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Sprintf("%s at byte %d", strings.TrimPrefix(syntax.Error(), "json: "), syntax.Offset)
	}
	return "a value has the wrong type"
}

// readMultipart reads the fields of a multipart form and ignores files.
func readMultipart(body []byte, boundary string) (url.Values, error) {
	if boundary == "" {
		return nil, echo.NewHTTPError(http.StatusBadRequest, "the multipart form has no boundary")
	}
	form, err := multipart.NewReader(bytes.NewReader(body), boundary).ReadForm(maxBody)
	if err != nil {
		return nil, echo.NewHTTPError(http.StatusBadRequest, "the body is not a multipart form").SetInternal(err)
	}
	defer form.RemoveAll()
	return form.Value, nil
}

// digest is a hash of the submission, and of a form's one-time key, in so many bytes.
func digest(s event.Submission, key string, bytes int) string {
	sum := sha256.Sum256([]byte(string(s.Email) + "\x00" + string(s.Lat) + "\x00" + string(s.Long) + "\x00" + key))
	return base64.RawURLEncoding.EncodeToString(sum[:bytes])
}

// idempotencyKey sets the submission's key: the header's, or one made of the form's one-time key
// and of what was typed, since a visitor who goes back and corrects the form makes a new submission
// and must not get "key reused".
func idempotencyKey(s *stage.Submission, r *http.Request, in input) error {
	if key := r.Header.Get("Idempotency-Key"); key != "" {
		if len(key) > maxKey {
			return fmt.Errorf("the Idempotency-Key has %d bytes, at most %d are allowed", len(key), maxKey)
		}
		s.Key, s.Digest = key, digest(in.submission, "", 8)
		return nil
	}
	if key := in.typed.Key; key != "" && len(key) <= maxKey {
		if id, err := uuid.Parse(key); err == nil && id.Version() == 7 {
			s.KeyAt = time.Unix(id.Time().UnixTime())
		}
		s.Key = "form:" + digest(in.submission, key, 18)
	}
	return nil
}

// newKey makes a form's one-time key. It contains the time.
func newKey() string {
	id, err := uuid.NewV7()
	if err != nil {
		return rand.Text()
	}
	return id.String()
}
