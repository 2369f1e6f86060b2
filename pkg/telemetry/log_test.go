package telemetry_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/telemetry"
)

// TestLogHidesAddresses: whatever a value holds, nobody's address is in the log.
func TestLogHidesAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"ada@example.com":                            "…@example.com",
		`insert {email: "ada.l+x@example.com"}`:      `insert {email: "…@example.com"}`,
		"<o'brien@example.com>, eve@b.example":       "<…@example.com>, …@b.example",
		`"a b"@example.com is taken`:                 "…@example.com is taken",
		"redis://user:password@redis:6379/0 is away": "redis://user:…@redis:6379/0 is away",
		"nothing to hide":                            "nothing to hide",
	} {
		for _, format := range []string{"text", "json"} {
			var b bytes.Buffer
			log := telemetry.Logging{LogFormat: format}.Open(&b, "sample").With("before", in)
			log.Info("said", "text", in, "err", errors.New(in))
			quote := strings.NewReplacer(`\"`, `"`, `\u003c`, "<", `\u003e`, ">")
			if got := quote.Replace(b.String()); strings.Count(got, want) != 3 {
				t.Errorf("%q became %s, want %q three times", in, got, want)
			}
		}
	}
}
