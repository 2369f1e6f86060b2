package stage

import (
	"time"

	"github.com/milepost/milepost/pkg/stage/internal/entry"
)

// delivery is an entry in the hands of this process, from read to settle.
type delivery struct {
	entry.Entry
	lane     *lane
	era      int    // of the lane, in which it was read
	failure  string // the error of the try just made, shown when somebody looks for the event
	read     time.Time
	span     string // traceparent of the span that handles it, "" if it is not traced
	alone    bool   // may have ended processes: is handled while nothing else is
	replayed bool   // was pending for this consumer when it connected
}

// fields is the entry as it is added anew for group, packed, with the given tries.
func (d *delivery) fields(group string, tries int) []byte {
	return d.Fields(group, tries, d.failure)
}
