package geodesy_test

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/geodesy"
)

func TestParse(t *testing.T) {
	for name, tc := range map[string]struct {
		lat, long string
		says      string // "" if it is right
		fails     error
	}{
		"plain":             {lat: "40.7128", long: "-74.0060"},
		"whole":             {lat: "-90", long: "+180"},
		"no digit before":   {lat: ".5", long: "-.5"},
		"no digit after":    {lat: "5.", long: "1"},
		"exponent":          {lat: "4.07128e1", long: "1E-400"},
		"spaces":            {lat: " 40.7128 ", long: "1"},
		"beyond 180":        {lat: "0", long: "7200.5"},
		"too far north":     {lat: "91", long: "0", says: `latitude "91" is not in [-90, 90]`, fails: geodesy.ErrRange},
		"too far south":     {lat: "-90.000001", long: "0", says: `latitude "-90.000001" is not in [-90, 90]`, fails: geodesy.ErrRange},
		"empty":             {lat: "", long: "0", says: "latitude is missing", fails: geodesy.ErrSyntax},
		"blank":             {lat: "0", long: "  ", says: "longitude is missing", fails: geodesy.ErrSyntax},
		"word":              {lat: "0", long: "here", says: `longitude "here" is not a number such as -74.0060`, fails: geodesy.ErrSyntax},
		"decimal comma":     {lat: "40,7", long: "0", says: `latitude "40,7" is not a number such as -74.0060`, fails: geodesy.ErrSyntax},
		"NaN":               {lat: "NaN", long: "0", says: `latitude "NaN" is not a finite number`, fails: geodesy.ErrRange},
		"infinity":          {lat: "0", long: "-Infinity", says: `longitude "-Infinity" is not a finite number`, fails: geodesy.ErrRange},
		"too large":         {lat: "0", long: "1e999", says: `longitude "1e999" is not a finite number`, fails: geodesy.ErrRange},
		"hexadecimal":       {lat: "0x1p4", long: "0", says: `latitude "0x1p4" is not a number such as -74.0060`, fails: geodesy.ErrSyntax},
		"sign alone":        {lat: "-", long: "0", says: `latitude "-" is not a number such as -74.0060`, fails: geodesy.ErrSyntax},
		"point alone":       {lat: ".", long: "0", says: `latitude "." is not a number such as -74.0060`, fails: geodesy.ErrSyntax},
		"two points":        {lat: "1.2.3", long: "0", says: `latitude "1.2.3" is not a number such as -74.0060`, fails: geodesy.ErrSyntax},
		"two signs":         {lat: "+-1", long: "0", says: `latitude "+-1" is not a number such as -74.0060`, fails: geodesy.ErrSyntax},
		"no exponent":       {lat: "1e", long: "0", says: `latitude "1e" is not a number such as -74.0060`, fails: geodesy.ErrSyntax},
		"exponent's point":  {lat: "1e1.5", long: "0", says: `latitude "1e1.5" is not a number such as -74.0060`, fails: geodesy.ErrSyntax},
		"underscore":        {lat: "1_0", long: "0", says: `latitude "1_0" is not a number such as -74.0060`, fails: geodesy.ErrSyntax},
		"line break":        {lat: "1\n", long: "0", says: `latitude "1\n" is not a number such as -74.0060`, fails: geodesy.ErrSyntax},
		"typographic minus": {lat: "−1", long: "0", says: `latitude "−1" is not a number such as -74.0060`, fails: geodesy.ErrSyntax},
		"other digits":      {lat: "١", long: "0", says: `latitude "١" is not a number such as -74.0060`, fails: geodesy.ErrSyntax},
		"very long": {
			lat: strings.Repeat("1", 65), long: "0",
			says: "latitude has 65 characters, at most 64 are allowed", fails: geodesy.ErrSyntax,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := geodesy.Parse(tc.lat, tc.long)
			if !errors.Is(err, tc.fails) || (err != nil && err.Error() != tc.says) {
				t.Errorf("Parse(%q, %q) = %v, %v; want %q, %v", tc.lat, tc.long, p, err, tc.says, tc.fails)
			}
		})
	}
}

// FuzzParse: whatever Parse takes is a place, within range, that can be measured.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"0", "40.7128", "-90", "+.5e1", "91", "NaN", "1e999", "0x1p4", "", " 1 ", "1\x00"} {
		f.Add(s, "-74.0060")
		f.Add("12", s)
	}
	f.Fuzz(func(t *testing.T, lat, long string) {
		p, err := geodesy.Parse(lat, long)
		if err != nil {
			if !errors.Is(err, geodesy.ErrRange) && !errors.Is(err, geodesy.ErrSyntax) {
				t.Errorf("Parse(%q, %q): %v, which is of no kind", lat, long, err)
			}
			if strings.ContainsAny(err.Error(), "\n\r\x1b") {
				t.Errorf("Parse(%q, %q): the message %q could forge a line", lat, long, err)
			}
			return
		}
		if !p.IsValid() {
			t.Errorf("Parse(%q, %q) = %v, which is no place", lat, long, p)
		}
		if miles, err := geodesy.Miles(office, p); err != nil || !(miles >= 0 && miles < 12_430.1) {
			t.Errorf("Miles(office, %v) = %v, %v", p, miles, err)
		}
		// Other languages read the text that we pass on.
		v, err := strconv.ParseFloat(strings.Trim(lat, " "), 64)
		if err != nil || math.Abs(v-p.Lat.Degrees()) > 1e-13 {
			t.Errorf("Parse(%q, …) is at %v°, read otherwise it is %v, %v", lat, p.Lat.Degrees(), v, err)
		}
	})
}

func ExampleParseLatitude() {
	for _, s := range []string{"32.080058", "91", "forty"} {
		fmt.Println(geodesy.ParseLatitude(s))
	}
	// Output:
	// 32.080058 <nil>
	// 0 latitude "91" is not in [-90, 90]
	// 0 latitude "forty" is not a number such as -74.0060
}

func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		if _, err := geodesy.Parse("40.7128", "-74.0060"); err != nil {
			b.Fatal(err)
		}
	}
}
