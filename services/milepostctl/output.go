package milepostctl

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
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
	var b bytes.Buffer // a buffer takes everything
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{heading}, rows...) {
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	_ = tw.Flush()
	_, err := w.Write(b.Bytes())
	return err
}

// narrow is the fewest characters to which fit cuts a cell.
const narrow = 16

// fit is table, made for the terminal's width if Out is a terminal: it cuts cells of the named
// columns, and if that is not enough leaves out the last columns.
func (t *tool) fit(heading []string, rows [][]string, cut ...string) error {
	if t.Screen == nil {
		return table(t.Out, heading, rows)
	}
	screen, _ := t.Screen()
	widths, total := make([]int, len(heading)), -2
	for i := range heading {
		for _, row := range append([][]string{heading}, rows...) {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
		total += widths[i] + 2
	}
	for total > screen && len(widths) > 1 {
		widest := -1
		for i, w := range widths {
			if w > narrow && slices.Contains(cut, heading[i]) && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		if widest >= 0 {
			widths[widest]--
			total--
			continue
		}
		total -= widths[len(widths)-1] + 2
		widths = widths[:len(widths)-1]
	}
	fitted := make([][]string, len(rows))
	for r, row := range rows {
		for i, w := range widths {
			cell := []rune(row[i])
			if len(cell) > w {
				cell = append(cell[:w-1], '…')
			}
			fitted[r] = append(fitted[r], string(cell))
		}
	}
	return table(t.Out, heading[:len(widths)], fitted)
}

// Words in a table's cell, and lines, that a terminal shows in colour.
var (
	good   = regexp.MustCompile(`(?m)(^|  )(running|ok|settled|done)(  )`)
	middle = regexp.MustCompile(`(?m)(^|  )(waiting|held up|retrying|pending|warning|unknown)(  )`)
	bad    = regexp.MustCompile(`(?m)(^|  )(not running|paused|set aside|fail)(  )`)
	alarm  = regexp.MustCompile(`(?m)^()(! .*?)(\x1b\[K)?$`)
)

// painter colours what is written to it.
type painter struct{ io.Writer }

func (p painter) Write(b []byte) (int, error) {
	text := good.ReplaceAll(b, []byte("$1\x1b[32m$2\x1b[0m$3"))
	text = middle.ReplaceAll(text, []byte("$1\x1b[33m$2\x1b[0m$3"))
	text = bad.ReplaceAll(text, []byte("$1\x1b[31m$2\x1b[0m$3"))
	text = alarm.ReplaceAll(text, []byte("$1\x1b[1;31m$2\x1b[0m$3"))
	if _, err := p.Writer.Write(text); err != nil {
		return 0, err
	}
	return len(b), nil
}

// paint colours the words for states on a terminal, unless NO_COLOR is set (no-color.org).
func (t *tool) paint() {
	if t.Screen != nil && t.output == "text" && t.Getenv("NO_COLOR") == "" && t.Getenv("TERM") != "dumb" {
		t.Out = painter{t.Out}
	}
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
