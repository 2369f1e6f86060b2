package stage

import "time"

// singleFor is how long a script relies on a Redis that had no replica.
const singleFor = time.Second

// sawSingle notes that Redis has no replica.
func (s *shard) sawSingle() { s.singleUntil.Store(time.Now().Add(singleFor).UnixMilli()) }

// single tells a script whether a message may be heard on other nodes, in a cluster on any: "1" if
// there is none, "0" if there are some, "" if the script is to ask. A message without a listener is
// not published, and a listener may be on a replica. To ask costs a script 4 µs, and more than 20
// µs while Redis is mostly idle, so one script a second asks.
func (s *shard) single() string {
	switch {
	case s.quiet != nil && s.quiet():
		return "1"
	case s.quiet != nil:
		return "0"
	case time.Now().UnixMilli() < s.singleUntil.Load():
		return "1"
	default:
		return ""
	}
}
