package email

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

func ExampleLine() {
	at := time.Date(2026, 11, 21, 21, 36, 47, 180e6, time.UTC)
	fmt.Println(Line(at, "jeff@example.com", 7118.879985511665, "Velocity"))
	// Output: 21:36:47,180 root INFO Email sent to: jeff@example.com; Message: You are 7118.879985511665 miles from Velocity.
}

func TestLine(t *testing.T) {
	zone := func(name string) *time.Location {
		l, err := time.LoadLocation(name)
		stagetest.OK(t, err)
		return l
	}
	at := time.Date(2026, 7, 1, 21, 36, 47, 7_999_999, time.UTC)
	for _, tc := range []struct {
		at   time.Time
		want string
	}{
		{at, "21:36:47,007 root INFO"},
		{at.Add(173 * time.Millisecond), "21:36:47,180 root INFO"},
		{at.Add(-7_999_999), "21:36:47,000 root INFO"},
		{at.In(zone("Asia/Jerusalem")), "00:36:47,007 root INFO"},
		{at.In(zone("Asia/Kathmandu")), "03:21:47,007 root INFO"},
	} {
		want := tc.want + " Email sent to: ada@example.com; Message: You are 0.0 miles from Tel Aviv."
		if got := Line(tc.at, "ada@example.com", 0, "Tel Aviv"); got != want {
			t.Errorf("Line(%v) = %q, want %q", tc.at, got, want)
		}
	}
}

// TestPythonFloat's right column is what CPython's repr printed.
func TestPythonFloat(t *testing.T) {
	for f, want := range map[float64]string{
		0: "0.0", math.Copysign(0, -1): "-0.0", 12: "12.0", 0.1: "0.1", 100: "100.0", 7118.879985511665: "7118.879985511665",
		5679.936314228998: "5679.936314228998", 12429.866739880: "12429.86673988", 1.0 / 3: "0.3333333333333333",
		0.0001: "0.0001", 0.00001: "1e-05", 0.000123: "0.000123", 0.0000123: "1.23e-05", 1e15: "1000000000000000.0",
		9999999999999998: "9999999999999998.0", 1e16: "1e+16", 1.5e16: "1.5e+16", 123456789012345680: "1.2345678901234568e+17",
		1e22: "1e+22", 5e-324: "5e-324", math.MaxFloat64: "1.7976931348623157e+308", -12.5: "-12.5", 1e100: "1e+100",
		math.Inf(1): "inf", math.Inf(-1): "-inf",
	} {
		if got := pythonFloat(f); got != want {
			t.Errorf("pythonFloat(%g) = %q, want %q", f, got, want)
		}
	}
	if got := pythonFloat(math.NaN()); got != "nan" {
		t.Errorf("pythonFloat(NaN) = %q, want nan", got)
	}
}

func TestZone(t *testing.T) {
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	for name, hour := range map[string]int{"UTC": 12, "Asia/Jerusalem": 15, ":Asia/Tokyo": 21, "EST5EDT": 8} {
		var z Zone
		if err := z.UnmarshalText([]byte(name)); err != nil {
			t.Errorf("TZ=%s: %v", name, err)
			continue
		}
		if got := at.In(z.Location()).Hour(); got != hour {
			t.Errorf("TZ=%s: hour %d, want %d", name, got, hour)
		}
	}
	for _, name := range []string{"Mars/Phobos", "../../etc/passwd", "/nowhere", "/etc/passwd"} {
		var z Zone
		if err := z.UnmarshalText([]byte(name)); err == nil {
			t.Errorf("TZ=%s was accepted", name)
		}
	}
	if (Zone{}).Location() != time.Local {
		t.Error("the zero Zone is not the system's")
	}
}
