package webapi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"html/template"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// A skeleton is a page with holes. What is the same in every answer is rendered by html/template,
// escaped and compressed once, at start.
type skeleton struct {
	parts    []part
	deflater *deflater
}

// part is text without holes, and the value that follows it.
type part struct {
	text    string
	value   int // index of the value behind the text; -1 behind the last
	earlier int // an earlier part with this value, or -1
}

// A hole in a rendered page is a number that the page does not have: noHole + the value's index.
const noHole = 700_000_000

func hole(value int) string { return strconv.Itoa(noHole + value) }

var holes = regexp.MustCompile(`7000000\d\d`)

func newSkeleton(page string) (skeleton, error) {
	var k skeleton
	var texts []string
	seen := map[int]int{} // part by value
	for last := 0; last >= 0; {
		p, at := part{text: page[last:], value: -1, earlier: -1}, holes.FindStringIndex(page[last:])
		if at == nil {
			last = -1
		} else {
			p.text, p.value = p.text[:at[0]], int(10*(page[last+at[1]-2]-'0')+page[last+at[1]-1]-'0')
			last += at[1]
			if e, known := seen[p.value]; known {
				p.earlier = e
			} else {
				seen[p.value] = len(k.parts)
			}
		}
		texts = append(texts, p.text)
		k.parts = append(k.parts, p)
	}
	if len(k.parts) == 1 {
		return k, errors.New("the page has no holes")
	}
	k.deflater = newDeflater(texts, usual)
	return k, nil
}

// usual are bytes as often as in values: a line on the map, numbers, UUIDs and an address.
var usual = strings.Repeat("0123456789", 28) + strings.Repeat(" L--", 22) + strings.Repeat(".,abcdef", 4) + "ghijklmnopqrstuvwxyz@% "

// escaper escapes as html/template does, in text and in quoted attributes alike.
var escaper = strings.NewReplacer("\x00", "\uFFFD", `"`, "&#34;", "&", "&amp;", "'", "&#39;", "+", "&#43;", "<", "&lt;", ">", "&gt;")

// pageBuffer is for one page.
type pageBuffer struct {
	plain, zipped []byte
	starts        []int // of the parts in plain
}

var pageBuffers = sync.Pool{New: func() any { return new(pageBuffer) }}

// fill returns the page with the values, as text or, if zip, as gzip, in memory of b. It escapes
// the values for text and quoted attributes; a value within an address must be plain there. It
// returns nil if the values are so long that only compress/flate can compress the page.
func (k skeleton) fill(b *pageBuffer, zip bool, values ...string) []byte {
	var escaped [acceptedValues]string
	for i, v := range values {
		escaped[i] = escaper.Replace(v)
	}
	b.plain, b.starts = b.plain[:0], b.starts[:0]
	for _, p := range k.parts {
		b.starts = append(b.starts, len(b.plain))
		b.plain = append(b.plain, p.text...)
		if p.value >= 0 {
			b.plain = append(b.plain, escaped[p.value]...)
		}
	}
	if !zip {
		return b.plain
	}
	b.zipped = append(b.zipped[:0], "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"...)
	if !k.deflater.append(b, k.parts) {
		return nil
	}
	b.zipped = binary.LittleEndian.AppendUint32(b.zipped, crc32.ChecksumIEEE(b.plain))
	b.zipped = binary.LittleEndian.AppendUint32(b.zipped, uint32(len(b.plain)))
	return b.zipped
}

// The values of the page of an accepted submission.
const (
	atKey = iota
	atID
	atEmail
	atLat
	atLong
	atName
	atFrom
	atX
	atY
	atLine
	atView
	atMiles
	atKm
	atShare
	acceptedValues
)

// acceptedSkeleton renders the page of an accepted submission with holes for its values.
func (s *site) acceptedSkeleton(pages *template.Template, repeat bool) (skeleton, error) {
	p := s.complete(mainPage{Typed: typed{Key: hole(atKey)}, Accepted: &acceptedView{
		ID: hole(atID), Email: hole(atEmail), Lat: hole(atLat), Long: hole(atLong), Name: hole(atName), Repeat: repeat,
	}})
	p.Map.fill(noHole+atX, noHole+atY, []string{hole(atFrom), hole(atLine), hole(atView), hole(atMiles), hole(atKm), hole(atShare)})
	var b strings.Builder
	if err := pages.ExecuteTemplate(&b, "main.html", p); err != nil {
		return skeleton{}, fmt.Errorf("page of an accepted submission: %w", err)
	}
	return newSkeleton(b.String())
}

// plainID reports whether an ID stays as it is in an address.
func plainID(id string) bool {
	return id != "" && strings.Trim(id, "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") == ""
}

// fill sets what depends on the place; texts are From, Line, View, Miles, Km and Share.
func (m *mapView) fill(x, y int, texts []string) {
	m.Chosen, m.X, m.Y = true, x, y
	m.From, m.Line, m.View, m.Miles, m.Km, m.Share = texts[0], texts[1], texts[2], texts[3], texts[4], template.URL(texts[5])
}

// fillAccepted fills the skeleton for a. It returns nil if a has something that only the template
// can show: an ID that must be escaped in an address, no valid place, or very long values.
func (s *site) fillAccepted(b *pageBuffer, to *mount, a *acceptedView, zip bool) []byte {
	m := s.mapOf(typed{Lat: a.Lat, Long: a.Long, Place: a.place()})
	if !m.Chosen || !plainID(a.ID) {
		return nil
	}
	values := [acceptedValues]string{
		atKey: s.newKey(), atID: a.ID, atEmail: a.Email, atLat: a.Lat, atLong: a.Long, atName: a.Name, atFrom: m.From,
		atX: strconv.Itoa(m.X), atY: strconv.Itoa(m.Y), atLine: m.Line, atView: m.View, atMiles: m.Miles, atKm: m.Km, atShare: string(m.Share),
	}
	k := to.accepted
	if a.Repeat {
		k = to.repeated
	}
	return k.fill(b, zip, values[:]...)
}
