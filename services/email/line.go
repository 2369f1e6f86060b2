package email

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/milepost/milepost/pkg/event"
)

// Line is the log's line of an email, without its line break:
//
//	21:36:47,180 root INFO Email sent to: jeff@example.com; Message: You are 7118.879985511665 miles from Velocity.
//
// The time is in at's location. Its milliseconds always have three digits; the programs that this
// format comes from printed 47,7 for 47.007 s.
func Line(at time.Time, to event.Address, miles float64, office string) string {
	return at.Format("15:04:05,000") + " root INFO Email sent to: " + string(to) +
		"; Message: You are " + pythonFloat(miles) + " miles from " + office + "."
}

// pythonFloat prints f as Python's repr does: the shortest digits that read back as f, with an
// exponent below 1e-4 and from 1e16 on, else with a decimal point.
func pythonFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	if size := math.Abs(f); size != 0 && (size < 1e-4 || size >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}
