package webapi

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"html/template"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A skeleton is a page with holes. What is the same in every answer is rendered by html/template,
// escaped and compressed once, at start. To fill it takes 7 µs; the template and gzip take 290.
type skeleton struct{ parts []part }

// part is text without holes, and the value that follows it.
type part struct {
	text     string
	deflated []byte // the text as complete blocks of RFC 1951; nil if it is too short to gain
	value    int    // index of the value behind the text; -1 behind the last
}

// A hole in a rendered page is a number that the page does not have: noHole + the value's index.
const noHole = 700_000_000

func hole(value int) string { return strconv.Itoa(noHole + value) }

var holes = regexp.MustCompile(`7000000\d\d`)

func newSkeleton(page string) (skeleton, error) {
	var k skeleton
	for last := 0; last >= 0; {
		p, at := part{text: page[last:], value: -1}, holes.FindStringIndex(page[last:])
		if at == nil {
			last = -1
		} else {
			p.text, p.value = p.text[:at[0]], int(10*(page[last+at[1]-2]-'0')+page[last+at[1]-1]-'0')
			last += at[1]
		}
		if len(p.text) >= 256 {
			var err error
			if p.deflated, err = deflate(p.text); err != nil {
				return k, err
			}
		}
		k.parts = append(k.parts, p)
	}
	if len(k.parts) == 1 {
		return k, errors.New("the page has no holes")
	}
	return k, nil
}

// deflate compresses text so that it can stand between other blocks.
func deflate(text string) ([]byte, error) {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err = w.Write([]byte(text)); err == nil {
		err = w.Flush() // ends at a whole byte
	}
	return b.Bytes(), err
}

// escaper escapes as html/template does, in text and in quoted attributes alike.
var escaper = strings.NewReplacer("\x00", "\uFFFD", `"`, "&#34;", "&", "&amp;", "'", "&#39;", "+", "&#43;", "<", "&lt;", ">", "&gt;")

// pageBuffer is what a page is filled into, and what is sent of it. Kept for the next page: a new
// one for each was a third of what the garbage collector had to do.
type pageBuffer struct{ plain, zipped []byte }

var pageBuffers = sync.Pool{New: func() any { return new(pageBuffer) }}

// fill returns the page with the values, as text or, if zip, as gzip; it is valid as long as b is
// not used again. It escapes the values for text and quoted attributes; a value within an address
// must be plain there.
func (k skeleton) fill(b *pageBuffer, zip bool, values ...string) []byte {
	var escaped [acceptedValues]string
	for i, v := range values {
		escaped[i] = escaper.Replace(v)
	}
	plain, zipped := b.plain[:0], append(b.zipped[:0], "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"...)
	stored := 0 // plain[stored:] is not in zipped yet
	for _, p := range k.parts {
		if zip && p.deflated != nil {
			zipped = append(store(zipped, plain[stored:], false), p.deflated...)
			stored = len(plain) + len(p.text)
		}
		plain = append(plain, p.text...)
		if p.value >= 0 {
			plain = append(plain, escaped[p.value]...)
		}
	}
	b.plain, b.zipped = plain, zipped
	if !zip {
		return plain
	}
	zipped = store(zipped, plain[stored:], true)
	zipped = binary.LittleEndian.AppendUint32(zipped, crc32.ChecksumIEEE(plain))
	zipped = binary.LittleEndian.AppendUint32(zipped, uint32(len(plain)))
	b.zipped = zipped
	return zipped
}

// store appends text as blocks that are not compressed. Last: the stream ends with it.
func store(b, text []byte, last bool) []byte {
	for chunk := range slices.Chunk(text, 65535) {
		b = append(b, 0)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(chunk)))
		b = binary.LittleEndian.AppendUint16(b, ^uint16(len(chunk)))
		b = append(b, chunk...)
	}
	if last {
		b = append(b, 1, 0, 0, 0xff, 0xff)
	}
	return b
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

// fillAccepted fills the skeleton for a, in b. It returns nil if a has something that only the
// template can show: an ID that must be escaped in an address, or no valid place.
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
