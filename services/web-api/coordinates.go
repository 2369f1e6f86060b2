package webapi

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/geodesy"
)

// degrees matches one coordinate as people write it: a hemisphere before or after it, a sign,
// degrees with a decimal point or comma, optional minutes and seconds.
var degrees = regexp.MustCompile(`^([NSEW])?\s*([+-]?)\s*([0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)\s*(?:[°º]|DEG)?\s*` +
	`(?:([0-9]+(?:[.,][0-9]+)?)\s*['′’]\s*(?:([0-9]+(?:[.,][0-9]+)?)\s*(?:["″”]|'')\s*)?)?([NSEW])?$`)

// pairs match two coordinates in one field. They are separated by a semicolon, a slash, a comma
// before a blank or a sign, a comma between numbers with points, or a blank after a hemisphere or
// between bare numbers.
var pairs = []*regexp.Regexp{
	regexp.MustCompile(`^([^;/]+)[;/]([^;/]+)$`),
	regexp.MustCompile(`^([^,]+(?:,[0-9]+)?[^,]*),\s+([^,]+(?:,[0-9]+)?[^,]*)$`),
	regexp.MustCompile(`^([^,]+),([+-][^,]+)$`),
	regexp.MustCompile(`^([^,]*\.[^,]*),([^,]+)$`),
	regexp.MustCompile(`^([^,]+),([^,]*\.[^,]*)$`),
	regexp.MustCompile(`^(.*[NS])\s+(.*[EW])$`),
	regexp.MustCompile(`^(.*[EW])\s+(.*[NS])$`),
	regexp.MustCompile(`^([NS].*)\s+([EW].*)$`),
	regexp.MustCompile(`^([+-]?[0-9.,]+°?)\s+([+-]?[0-9.,]+°?)$`),
}

// split reads both coordinates from a text such as "40.7128, -74.0060". It returns the latitude
// first even if the longitude comes first.
func split(text string) (lat, long string, ok bool) {
	text = tidy(text)
	for _, p := range pairs {
		m := p.FindStringSubmatch(text)
		if m == nil {
			continue
		}
		a, b := degrees.FindStringSubmatch(strings.TrimSpace(m[1])), degrees.FindStringSubmatch(strings.TrimSpace(m[2]))
		if a == nil || b == nil {
			continue
		}
		if h := a[1] + a[6]; h == "E" || h == "W" {
			a, b = b, a
		}
		return a[0], b[0], true
	}
	return "", "", false
}

// place turns what was typed into the two fields into decimal degrees. It returns decimal
// degrees, and text that it cannot read, unchanged: [event.Submission.Check] then says what is
// wrong. A text that contradicts itself gives an error for its field.
func place(lat, long string) (string, string, []*event.FieldError) {
	if strings.TrimSpace(long) == "" {
		if a, b, ok := split(lat); ok {
			lat, long = a, b
		}
	} else if strings.TrimSpace(lat) == "" {
		if a, b, ok := split(long); ok {
			lat, long = a, b
		}
	}
	var wrong []*event.FieldError
	lat, err := decimal("latitude", "NS", lat)
	if err != nil {
		wrong = append(wrong, &event.FieldError{Field: "lat", Err: err})
	}
	long, err = decimal("longitude", "EW", long)
	if err != nil {
		wrong = append(wrong, &event.FieldError{Field: "long", Err: err})
	}
	return lat, long, wrong
}

// decimal reads one coordinate. Axis has its hemispheres, the positive one first.
func decimal(name, axis, typed string) (string, error) {
	if _, err := geodesy.ParseLongitude(typed); err == nil {
		return strings.Trim(typed, " "), nil
	}
	m := degrees.FindStringSubmatch(tidy(typed))
	if m == nil {
		return typed, nil
	}
	sign, number, minutes, seconds, hemisphere := m[2], m[3], m[4], m[5], m[1]+m[6]
	switch {
	case len(hemisphere) > 1:
		return typed, fmt.Errorf("%s %q names two hemispheres; leave one out", name, typed)
	case hemisphere != "" && !strings.Contains(axis, hemisphere):
		return typed, fmt.Errorf("%s %q says %s, but a %s is %c or %c", name, typed, hemisphere, name, axis[0], axis[1])
	case hemisphere != "" && sign != "":
		return typed, fmt.Errorf("%s %q has a sign and %s; leave one of them out", name, typed, hemisphere)
	}
	number = point(number)
	if minutes != "" {
		d, _ := strconv.ParseFloat(number, 64) // the expression matches only numbers
		m, _ := strconv.ParseFloat(point(minutes), 64)
		s, _ := strconv.ParseFloat(point(seconds), 64)
		if m >= 60 || s >= 60 || strings.Contains(number, ".") {
			return typed, fmt.Errorf("%s %q: whole degrees, with minutes and seconds below 60, are understood", name, typed)
		}
		number = strconv.FormatFloat(d+m/60+s/3600, 'f', 6, 64)
	}
	if sign == "+" {
		sign = ""
	}
	if hemisphere == axis[1:] {
		sign = "-"
	}
	return sign + number, nil
}

func point(s string) string { return strings.Replace(s, ",", ".", 1) }

// tidy replaces typographic characters with plain ones.
func tidy(s string) string {
	s = strings.NewReplacer("\u2212", "-", "\u2013", "-", "\u00a0", " ", "\u202f", " ", "\t", " ").Replace(s)
	return strings.ToUpper(strings.TrimSpace(s))
}
