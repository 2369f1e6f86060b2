package weather

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/golang/geo/s2"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// cellLevel is the level of S2 cells whose edges are 7 to 12 km long.
// https://s2geometry.io/resources/s2cell_statistics
const cellLevel = 10

func cell(place s2.LatLng) s2.CellID { return s2.CellIDFromLatLng(place).Parent(cellLevel) }

// maxCity is how many characters a city may have. The longest name in use, in New Zealand, has 85.
const maxCity = 100

var errCity = errors.New("a city is 1 to 100 letters, without control characters")

// normal returns a city as the provider is asked for it: "São Paulo" for "  São   Paulo".
func normal(city string) (asked string, err error) {
	if !utf8.ValidString(city) || strings.ContainsFunc(city, func(r rune) bool { return unicode.IsControl(r) && !unicode.IsSpace(r) }) {
		return "", errCity
	}
	asked = norm.NFC.String(strings.Join(strings.Fields(city), " "))
	if n := utf8.RuneCountInString(asked); n == 0 || n > maxCity {
		return "", errCity
	}
	return asked, nil
}

// fold returns the same for all cases and encodings of a name. A provider may not know it: it has
// no ß and no ς.
func fold(s string) string { return cases.Fold().String(norm.NFKC.String(s)) }
