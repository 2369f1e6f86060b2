package cache

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"time"
)

// entry is what Redis holds for a key: a value, or that there is none, or why loading it failed. An
// entry that failed may hold the value of an earlier load.
type entry[V any] struct {
	Value   *V     `json:"value,omitempty"`
	Missing bool   `json:"missing,omitempty"` // the last load returned ErrMissing
	Failed  string `json:"failed,omitempty"`  // error of the last load, until the pause ends
	At      int64  `json:"at"`                // when Value was loaded, in Unix milliseconds
	Until   int64  `json:"until"`             // end of its freshness, in Unix milliseconds
}

// parse reads an entry; ok is false if there is none or it cannot be read.
func parse[V any](text string) (e entry[V], ok bool) {
	err := json.Unmarshal([]byte(text), &e)
	if err != nil || e.Until <= 0 || e.Missing == (e.Value != nil || e.Failed != "") {
		return entry[V]{}, false
	}
	return e, true
}

func (e entry[V]) fresh() bool { return time.Now().UnixMilli() < e.Until }

// next makes the entry that follows old after a load, and how long Redis keeps it.
func next[V any](o Options, old entry[V], value V, err error) (e entry[V], keep time.Duration) {
	now := time.Now()
	e = entry[V]{Value: &value, At: now.UnixMilli()}
	fresh, stale := o.TTL, o.Stale
	switch {
	case errors.Is(err, ErrMissing):
		e.Value, e.Missing = nil, true
		fresh, stale = o.Missing, 0
	case err != nil:
		end := time.UnixMilli(old.At).Add(o.TTL + o.Stale)
		e = entry[V]{Value: old.Value, Failed: err.Error(), At: old.At, Until: now.Add(o.Pause).UnixMilli()}
		return e, max(o.Pause, end.Sub(now))
	}
	fresh -= time.Duration(rand.Float64() * o.Jitter * float64(fresh))
	e.Until = now.Add(fresh).UnixMilli()
	return e, fresh + stale
}
