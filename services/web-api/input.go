package webapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/milepost/milepost/pkg/event"
)

const (
	maxBody = 64 << 10 // bytes of a request's body; a submission has a few hundred
	maxKey  = 255      // bytes of an idempotency key
)

// typed is a form as somebody sent it, right or wrong.
type typed struct {
	Email, Lat, Long string
	Key              string // the hidden one-time key
}

// input is what a request to submit asks for.
type input struct {
	typed      typed
	submission event.Submission
	wrong      []*event.FieldError // what is wrong with it, in the order of the fields
	track      bool
}

// readInput reads a form or JSON. Its error is an [echo.HTTPError]: the body cannot be read at all.
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
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return input{}, echo.NewHTTPError(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes", maxBody))
	} else if err != nil {
		return input{}, echo.NewHTTPError(http.StatusBadRequest, "the body ended too early").SetInternal(err)
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

// readForm takes what people type: the place in any of the ways that place understands.
func readForm(form url.Values) input {
	in := input{track: true, typed: typed{
		Email: form.Get("email"), Lat: form.Get("lat"), Long: form.Get("long"), Key: form.Get("idempotency_key"),
	}}
	in.submission.Email = event.Address(strings.Trim(in.typed.Email, " \t"))
	var wrong []*event.FieldError
	in.submission.Lat, in.submission.Long, wrong = place(in.typed.Lat, in.typed.Long)
	in.check(wrong)
	return in
}

// readJSON takes what programs send: decimal degrees, nothing to guess.
func readJSON(body []byte) (input, error) {
	var in input
	var ask struct {
		Track bool `json:"track"`
	}
	err := in.submission.ReadPayload(body)
	s := in.submission
	if err == nil {
		// Nearly all send the submission as it is published, which asks for nothing more: one decoding less.
		if plain, plainErr := s.AppendPayload(nil); plainErr != nil || !bytes.Equal(plain, body) {
			err = json.Unmarshal(body, &ask)
		}
	}
	if err != nil {
		return input{}, echo.NewHTTPError(http.StatusBadRequest, "the body is not the JSON of a submission: "+jsonError(err)).SetInternal(err)
	}
	in.typed, in.track = typed{Email: string(s.Email), Lat: s.Lat, Long: s.Long}, ask.Track
	in.check(nil)
	return in, nil
}

// check completes wrong with what the submission says of itself, one error a field.
func (in *input) check(wrong []*event.FieldError) {
	in.wrong = in.submission.Check()
	for _, w := range wrong {
		for i, other := range in.wrong {
			if other.Field == w.Field {
				in.wrong[i] = w
			}
		}
	}
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
	return "it does not fit"
}

// readMultipart reads the fields of a multipart form; files have no place in it.
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

// digest tells submissions apart for the idempotency keys.
func digest(s event.Submission) string {
	sum := sha256.Sum256([]byte(string(s.Email) + "\x00" + s.Lat + "\x00" + s.Long))
	return hex.EncodeToString(sum[:])
}

// idempotencyKey is the header's key as it is, or else the form's one-time key. The latter is joined with the digest: who
// goes back and corrects the form means another submission, not a repeat, and should not be told that a key was reused.
func idempotencyKey(r *http.Request, in input) (string, error) {
	if key := r.Header.Get("Idempotency-Key"); key != "" {
		if len(key) > maxKey {
			return "", fmt.Errorf("the Idempotency-Key has %d bytes, at most %d are allowed", len(key), maxKey)
		}
		return key, nil
	}
	if key := in.typed.Key; key != "" && len(key) <= maxKey {
		return "form:" + digest(in.submission) + ":" + key, nil
	}
	return "", nil
}
