package stage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
)

// Validator is implemented by payload types that can be wrong although they decode. An error makes
// the entry a dead letter.
type Validator interface{ Validate() error }

// PayloadReader is implemented by payload types that read their own bytes, faster than by
// reflection. ReadPayload has a pointer receiver and must not keep b.
type PayloadReader interface{ ReadPayload(b []byte) error }

// decode reads a payload: a [PayloadReader] reads itself, a []byte or string kind is the bare
// bytes, anything else JSON, whose unknown keys are ignored. Then a type with Validate is asked.
func decode[T any](payload []byte) (T, error) {
	var v T
	if r, ok := any(&v).(PayloadReader); ok {
		if err := r.ReadPayload(payload); err != nil {
			return v, fmt.Errorf("decode payload: %w", err)
		}
	} else if err := decodeKind(payload, &v); err != nil {
		return v, err
	}
	if val, ok := any(&v).(Validator); ok {
		if err := val.Validate(); err != nil {
			return v, err
		}
	}
	return v, nil
}

func decodeKind(payload []byte, v any) error {
	switch t := reflect.ValueOf(v).Elem(); {
	case t.Kind() == reflect.String:
		t.SetString(string(payload))
	case t.Type() == reflect.TypeFor[[]byte]():
		t.SetBytes(bytes.Clone(payload))
	default:
		if err := json.Unmarshal(payload, v); err != nil {
			return fmt.Errorf("decode payload: %w", err)
		}
	}
	return nil
}

// encode is the reverse of decode. JSON is written without HTML escapes, so that "&" stays "&".
func encode(v any) ([]byte, error) {
	if r := reflect.ValueOf(v); r.Kind() == reflect.String {
		return []byte(r.String()), nil
	}
	if raw, ok := v.([]byte); ok {
		return raw, nil
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode payload: %w", err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}
