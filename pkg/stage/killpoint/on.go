//go:build killpoints

package killpoint

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// On tells whether this build has kill points.
const On = true

var (
	at, nth = parse(os.Getenv("MILEPOST_KILL"))
	passed  atomic.Int64
)

func parse(v string) (string, int64) {
	at, nth, _ := strings.Cut(v, ":")
	n, err := strconv.ParseInt(nth, 10, 64)
	if err != nil {
		n = 1
	}
	return at, n
}

// Pass ends the process if this is the point, and the time, that MILEPOST_KILL names.
func Pass(point string) {
	if point == at && passed.Add(1) == nth {
		kill()
	}
}

// Soon ends the process within a millisecond, so that the call that follows is under way.
func Soon(point string) {
	if point == at && passed.Add(1) == nth {
		time.AfterFunc(rand.N(time.Millisecond), kill)
	}
}

func kill() {
	p, err := os.FindProcess(os.Getpid())
	if err == nil {
		_ = p.Kill()
	}
	select {} // the signal is on its way
}
