//go:build killpoints

package stage

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// With the build tag killpoints, a program sends itself SIGKILL when it passes the point that
// MILEPOST_KILL names ("<point>:<n>") for the nth time. Tests kill programs exactly there.
var (
	killAt, killNth = parseKill(os.Getenv("MILEPOST_KILL"))
	passed          atomic.Int64
)

func parseKill(v string) (string, int64) {
	at, nth, _ := strings.Cut(v, ":")
	n, err := strconv.ParseInt(nth, 10, 64)
	if err != nil {
		n = 1
	}
	return at, n
}

func killPoint(point string) {
	if point == killAt && passed.Add(1) == killNth {
		kill()
	}
}

// killSoon ends the process within a millisecond, so that the call that follows is under way.
func killSoon(point string) {
	if point == killAt && passed.Add(1) == killNth {
		time.AfterFunc(rand.N(time.Millisecond), kill)
	}
}

func kill() {
	p, err := os.FindProcess(os.Getpid())
	if err == nil {
		_ = p.Kill()
	}
	select {}
}
