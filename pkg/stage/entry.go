package stage

import "time"

// delivery is an entry in the hands of this process, from read to settle.
type delivery struct {
	entry, channel, id, traceparent string
	payload                         []byte
	body                            any
	at                              time.Time
	adopted, tracked                bool
	tries, crashes                  int
}
