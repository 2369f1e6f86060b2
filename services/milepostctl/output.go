package milepostctl

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// json writes v on a line of its own.
func (t *tool) json(v any) error { return jsonTo(t.Out, v) }

func jsonTo(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// listing is what a command lists: a line of JSON for each, or a table.
type listing struct {
	*tool
	n    int
	rows [][]string
	err  error // of the output
}

// add adds an object, or its row in the table.
func (l *listing) add(object any, row ...string) {
	l.n++
	if l.output != "json" {
		l.rows = append(l.rows, row)
	} else if l.err == nil {
		l.err = l.json(object)
	}
}

// end writes the table, or none if there is no row.
func (l *listing) end(none string, heading []string, give ...string) error {
	switch {
	case l.output == "json" || l.err != nil:
		return l.err
	case l.n == 0:
		_, err := fmt.Fprintln(l.Out, none)
		return err
	}
	return l.table(l.Out, heading, l.rows, give...)
}

// narrow is the fewest characters to which table cuts a cell.
const narrow = 16

// table writes rows under a heading, in columns. Cells beyond the heading are lines below their
// row. On a terminal that is too narrow, the columns of give give way, the first one first: it is
// cut, or left out if that is not enough.
func (t *tool) table(w io.Writer, heading []string, rows [][]string, give ...string) error {
	all := append([][]string{heading}, rows...)
	widths, total := make([]int, len(heading)), -2
	for i := range heading {
		for _, row := range all {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
		total += widths[i] + 2
	}
	screen := total
	if t.Screen != nil {
		screen, _ = t.Screen()
	}
	for _, name := range give {
		i, over := slices.Index(heading, name), total-screen
		switch {
		case over <= 0:
		case widths[i]-over >= narrow:
			widths[i], total = widths[i]-over, screen
		default:
			widths[i], total = 0, total-widths[i]-2
		}
	}
	var b strings.Builder
	for _, row := range all {
		var line strings.Builder
		for i, width := range widths {
			cell := []rune(row[i])
			if width > 0 && len(cell) > width {
				cell = append(cell[:width-1], '…')
			}
			if width > 0 {
				fmt.Fprintf(&line, "%-*s  ", width, string(cell))
			}
		}
		fmt.Fprintln(&b, strings.TrimRight(line.String(), " "))
		for _, below := range row[len(heading):] {
			fmt.Fprintf(&b, "  %s\n", below)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Words in a table's cell, and lines, that a terminal shows in colour.
var (
	good   = regexp.MustCompile(`(?m)(^|  )(running|ok|settled|done)(  )`)
	middle = regexp.MustCompile(`(?m)(^|  )(waiting|held up|retrying|pending|warning|unknown)(  )`)
	bad    = regexp.MustCompile(`(?m)(^|  )(not running|paused|set aside|fail)(  )`)
	alarm  = regexp.MustCompile(`(?m)^()(! .*?)(\x1b\[K)?$`)
)

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

// told ends a command with its result, as text or as JSON.
func (t *tool) told(text string, object any) error {
	if t.output == "json" {
		return t.json(object)
	}
	_, err := fmt.Fprintln(t.Out, text)
	return err
}

// clock writes a time to the millisecond; "-" if there is none.
func clock(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.Local().Format("2006-01-02 15:04:05.000 -0700")
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + one + "s"
}
