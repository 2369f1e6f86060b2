package cache

import (
	"encoding/json"
	"math/rand/v2"
	"time"
)

// entry is what is kept in Redis.
type entry[V any] struct {
	Value   *V    `json:"value,omitempty"`   // nil if what was asked for does not exist
	Missing bool  `json:"missing,omitempty"` // it does not
	At      int64 `json:"at"`                // when it was loaded, in Unix milliseconds
	Until   int64 `json:"until"`             // how long it is fresh
}

// read makes sense of what is in Redis; ok is false for nothing and for what makes none.
func read[V any](text string) (e entry[V], ok bool) {
	if text == "" {
		return e, false
	}
	err := json.Unmarshal([]byte(text), &e)
	return e, err == nil && (e.Value == nil) == e.Missing && e.Until > 0
}

func (e entry[V]) fresh(now time.Time) bool { return now.UnixMilli() < e.Until }

// keep makes the entry of a value that was loaded, or of nothing, and how long Redis shall keep it.
func (o Options) keep(now time.Time, missing bool) (until time.Time, whole time.Duration) {
	ttl, stale := o.TTL, o.Stale
	if missing {
		ttl, stale = o.Missing, 0
	}
	ttl -= time.Duration(rand.Float64() * o.Jitter * float64(ttl))
	return now.Add(ttl), ttl + stale
}
