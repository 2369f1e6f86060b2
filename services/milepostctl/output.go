package milepostctl

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/milepost/milepost/pkg/event"
)

// json writes v on a line of its own.
func (t *tool) json(v any) error { return jsonTo(t.Out, v) }

func jsonTo(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// table writes rows under a heading, in columns as wide as they need.
func table(w io.Writer, heading []string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{heading}, rows...) {
		if _, err := fmt.Fprintln(tw, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// visible is s as a terminal may show it: as it is if every character is printable, else quoted. What comes over a
// channel is anybody's text and could hold escape sequences.
func visible(s string) string {
	if s == "" || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// printable is text that may quote anything, with what a terminal could take for more than text escaped.
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

// payload is what travelled, for JSON: text if it is text, else base64.
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

// ago is how long before now t was, to the second; "-" for no time.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return now.Sub(t).Truncate(time.Second).String()
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + one + "s"
}

// channels are those of the application, in the order an event passes them.
var channels = []string{event.RawInput, event.CalculatedDistance, event.UserEmail, event.EmailSent, event.WeatherReport}
