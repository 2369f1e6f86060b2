package milepostctl

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// json writes v on a line of its own.
func (t *tool) json(v any) error {
	enc := json.NewEncoder(t.Out)
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
func (l *listing) end(none string, heading ...string) error {
	if l.output == "json" || l.err != nil {
		return l.err
	}
	var b strings.Builder
	if l.n == 0 {
		b.WriteString(none + "\n")
	} else {
		table(&b, heading, l.rows)
	}
	_, err := io.WriteString(l.Out, b.String())
	return err
}

// table writes rows under a heading, in columns. Cells beyond the heading are lines below their
// row.
func table(b *strings.Builder, heading []string, rows [][]string) {
	widths := make([]int, len(heading))
	rows = slices.Insert(slices.Clone(rows), 0, heading)
	for _, row := range rows {
		for i := range heading {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	for _, row := range rows {
		line := ""
		for i, width := range widths {
			line += fmt.Sprintf("%-*s  ", width, row[i])
		}
		fmt.Fprintln(b, strings.TrimRight(line, " "))
		for _, below := range row[len(heading):] {
			fmt.Fprintf(b, "  %s\n", below)
		}
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
