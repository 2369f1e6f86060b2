package coordinates

import (
	"regexp"
	"strings"
)

// links find the coordinates in a link copied from Google Maps, Apple Maps, OpenStreetMap or Bing
// Maps, or in a geo URI (RFC 5870). The first expression that matches wins: a marker goes before
// the middle of the map.
var links = []*regexp.Regexp{
	regexp.MustCompile(`!3D(-?[0-9.]+)!4D(-?[0-9.]+)`),                                                         // Google: the place
	regexp.MustCompile(`[?&](?:Q|LL|QUERY|COORDINATE|DADDR|SLL|CENTER)=(?:LOC:)?(-?[0-9.]+),[ +]*(-?[0-9.]+)`), // Google, Apple
	regexp.MustCompile(`[?&]MLAT=(-?[0-9.]+)&MLON=(-?[0-9.]+)`),                                                // OpenStreetMap: the marker
	regexp.MustCompile(`/(?:@|SEARCH/|PLACE/)(-?[0-9.]+),[ +]*(-?[0-9.]+)`),                                    // Google: the middle
	regexp.MustCompile(`#MAP=[0-9.]+/(-?[0-9.]+)/(-?[0-9.]+)`),                                                 // OpenStreetMap: the middle
	regexp.MustCompile(`[?&]CP=(-?[0-9.]+)~(-?[0-9.]+)`),                                                       // Bing
	regexp.MustCompile(`^GEO:(-?[0-9.]+),(-?[0-9.]+)`),
}

var isLink = regexp.MustCompile(`^(?:HTTPS?://|GEO:|[A-Z.]*(?:GOOGLE|GOO\.GL|APPLE|OPENSTREETMAP|BING)\.)`)

func isShortLink(text string) bool { return isLink.MatchString(text) }

// label is a name before a coordinate, as in "lat: 40.7, long: -74" or {"lat":40.7,"lng":-74}.
var label = regexp.MustCompile(`"?\b(?:LATITUDE|LONGITUDE|LAT|LONG|LNG|LON)\b"?\s*[:=]?`)

// replaced are the characters that word processors, maps and phones put in place of plain ones.
var replaced = strings.NewReplacer(
	"\u2010", "-", "\u2011", "-", "\u2012", "-", "\u2013", "-", "\u2014", "-", "\u2015", "-", "\u2212", "-",
	"\ufe58", "-", "\ufe63", "-", "\uff0d", "-", "\uff0b", "+",
	"\u00ba", "°", "\u02da", "°", "\u2218", "°",
	"\u2032", "'", "\u2018", "'", "\u2019", "'", "\u00b4", "'", "\u02b9", "'", "\u02bc", "'", "`", "'", "\uff07", "'",
	"\u2033", `"`, "\u201c", `"`, "\u201d", `"`, "\u201e", `"`, "\u02ba", `"`, "\uff02", `"`,
	"\uff0c", ",", "\u3001", ",", "\uff0e", ".", "\uff1a", ":", "\uff1b", ";",
)

// tidy replaces look-alikes by plain characters, removes what is invisible and turns text to
// capitals.
func tidy(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == 0xad || 0x200b <= r && r <= 0x200f || 0x202a <= r && r <= 0x202e || 0x2060 <= r && r <= 0x2069 || r == 0xfeff:
			return -1
		case r == '\t' || r == '\n' || r == '\r' || r == 0xa0 || 0x2000 <= r && r <= 0x200a || r == 0x202f || r == 0x205f || r == 0x3000:
			return ' '
		case 0xff10 <= r && r <= 0xff19:
			return r - 0xff10 + '0'
		}
		return r
	}, text)
	return strings.ToUpper(strings.TrimSpace(strings.ReplaceAll(replaced.Replace(text), "''", `"`)))
}

// pair reads two coordinates from one text. Numbers with nothing but a blank between them are a
// pair only if the other field is empty: else "40 42" is 40 degrees and 42 minutes.
func pair(text string, otherEmpty bool) (p [2]coordinate, ok bool) {
	address := strings.ReplaceAll(text, "%2C", ",")
	for _, link := range links {
		if m := link.FindStringSubmatch(address); m != nil {
			return [2]coordinate{one(m[1]), one(m[2])}, true
		}
	}
	if isLink.MatchString(text) || decimalNumber.MatchString(text) {
		return p, false
	}
	names := label.FindAllString(text, -1)
	text = strings.Trim(label.ReplaceAllString(text, " "), " ()[]{}")
	for _, at := range splits(text, otherEmpty) {
		a, b := one(text[:at[0]]), one(text[at[1]:])
		if a.wrong != "" || b.wrong != "" {
			continue
		}
		longFirst := a.hemisphere.isLong() || len(names) == 2 && !strings.Contains(names[0], "LAT")
		if longFirst && !b.hemisphere.isLong() {
			a, b = b, a
		}
		return [2]coordinate{a, b}, true
	}
	return p, false
}

// The places where a text may be cut into two coordinates, in the order in which they are tried: a
// semicolon, a slash or a tilde; a comma with a blank or a sign behind it; a comma beside a number
// with a point; before or after a hemisphere; before the second degree sign's number; a blank
// before a sign; the middle of the blanks between numbers.
var cuts = []*regexp.Regexp{
	regexp.MustCompile(`\s*[;/~]\s*`),
	regexp.MustCompile(`\s*,(?:\s+|\s*([-+]))`),
	regexp.MustCompile(`\s*,\s*`),
	regexp.MustCompile(`\s+([NSEW])`),
	regexp.MustCompile(`[NSEW]\s*()`),
	regexp.MustCompile(`[°'"0-9]\s+([-+]?[0-9.,]+\s*(?:°|DEG))`),
	regexp.MustCompile(`\s+([-+])`),
}

// splits returns the candidates, each as the end of the first and the start of the second
// coordinate.
func splits(text string, otherEmpty bool) (at [][2]int) {
	for i, cut := range cuts {
		found := cut.FindAllStringSubmatchIndex(text, -1)
		if len(found) == 0 || i == 2 && !strings.Contains(text, ".") {
			continue
		}
		// Of several commas the one in the middle: "40,7128, -74,0060".
		m := found[len(found)/2]
		switch {
		case i == 4: // after a hemisphere
			m = found[0]
			if m[1] < len(text) {
				at = append(at, [2]int{m[2], m[2]})
			}
		case len(m) > 2 && m[2] >= 0: // the second coordinate begins with what the cut captured
			at = append(at, [2]int{m[2], m[2]})
		default:
			at = append(at, [2]int{m[0], m[1]})
		}
	}
	if blanks := blank.FindAllStringIndex(text, -1); otherEmpty && len(blanks)%2 == 1 {
		m := blanks[len(blanks)/2]
		at = append(at, [2]int{m[0], m[1]})
	}
	return at
}

var blank = regexp.MustCompile(`\s+`)

// single is one coordinate: a hemisphere before or after; a sign; degrees, perhaps minutes, perhaps
// seconds, each with its mark, a colon or a blank behind it.
var single = regexp.MustCompile(`^([NSEW])?\s*([-+]?)\s*` +
	`([0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)\s*(?:°|DEG|D)?` +
	`(?:\s*[: ]?\s*([0-9]+(?:[.,][0-9]+)?)\s*'?` +
	`(?:\s*[: ]?\s*([0-9]+(?:[.,][0-9]+)?)\s*"?)?)?` +
	`\s*([NSEW])?$`)

// decimalNumber is what JSON programs send and the form always took: it may have an exponent.
var decimalNumber = regexp.MustCompile(`^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:E[-+]?[0-9]+)?$`)

// isPlain reports whether text is a decimal number without an exponent. Most are, and need none of
// the expressions, which take most of the time of a form.
func isPlain(text string) bool {
	if text != "" && (text[0] == '-' || text[0] == '+') {
		text = text[1:]
	}
	whole, fraction, _ := strings.Cut(text, ".")
	return whole+fraction != "" && strings.Trim(whole, "0123456789") == "" && strings.Trim(fraction, "0123456789") == ""
}

func decimal(text string) coordinate {
	sign := strings.TrimRight(text[:1], ".0123456789")
	return coordinate{sign: sign, numbers: [3]string{text[len(sign):]}}
}

func one(text string) coordinate {
	text = strings.Trim(label.ReplaceAllString(text, " "), " ()[]{}")
	if text == "" {
		return coordinate{wrong: Missing}
	}
	if decimalNumber.MatchString(text) {
		return decimal(text)
	}
	m := single.FindStringSubmatch(text)
	if m == nil {
		return coordinate{wrong: NotANumber}
	}
	c := coordinate{sign: m[2], hemisphere: hemisphere(m[1] + m[6])}
	if len(c.hemisphere) > 1 {
		return coordinate{wrong: TwoHemispheres}
	}
	for i, n := range m[3:6] {
		c.numbers[i] = strings.Replace(n, ",", ".", 1)
	}
	return c
}
