package milepostctl

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/milepost/milepost/pkg/event"
)

// json writes v on a line of its own.
func (t *tool) json(v any) error { return jsonTo(t.Out, v) }

func jsonTo(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// table writes rows under a heading, in columns.
func table(w io.Writer, heading []string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{heading}, rows...) {
		if _, err := fmt.Fprintln(tw, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// visible is s if every character is printable, else s quoted. Text from a channel may come from
// any program and contain escape sequences for a terminal.
func visible(s string) string {
	if s == "" || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// printable is s with everything escaped that is not printable.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// payload is a payload in JSON: as text if it is UTF-8, else as base64.
type payload struct {
	Text  string `json:"payload,omitempty"`
	Bytes []byte `json:"payload_base64,omitempty"`
}

func payloadOf(b []byte) payload {
	if utf8.Valid(b) {
		return payload{Text: string(b)}
	}
	return payload{Bytes: b}
}

// told ends a command: with err, or with its result as text or JSON.
func (t *tool) told(text string, object any, err error) error {
	if err != nil {
		return err
	}
	if t.output == "json" {
		return t.json(object)
	}
	_, err = fmt.Fprintln(t.Out, text)
	return err
}

// clock writes a time to the millisecond; "-" if there is none.
func clock(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.Local().Format("2006-01-02 15:04:05.000 -0700")
}

// bar shows progress to a person and nothing to a program. Most is 0 if it is unknown.
func (t *tool) bar(most int, what string) *progressbar.ProgressBar {
	f, ok := t.Err.(*os.File)
	return progressbar.NewOptions(cmp.Or(most, -1),
		progressbar.OptionSetWriter(t.Err), progressbar.OptionSetVisibility(ok && term.IsTerminal(int(f.Fd()))),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString(what),
		progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish())
}

// seconds writes a time with three significant digits or so.
func seconds(s float64) string {
	switch {
	case s < 0.001:
		return fmt.Sprintf("%.0f µs", s*1e6)
	case s < 0.1:
		return fmt.Sprintf("%.2f ms", s*1e3)
	}
	return fmt.Sprintf("%.3f s", s)
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + one + "s"
}

// channels are those of the application, in the order in which an event passes them.
var channels = []string{event.RawInput, event.CalculatedDistance, event.UserEmail, event.EmailSent, event.WeatherReport}
