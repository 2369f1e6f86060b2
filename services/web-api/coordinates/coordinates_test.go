package coordinates

import (
	"encoding/json"
	"math"
	"os"
	"strconv"
	"testing"
)

// example is a line of the table.
type example struct {
	Lat, Long string
	Want      []float64         // degrees, or
	Text      []string          // the very digits, or
	Wrong     map[string]string // field → reason
}

// Table returns the examples of testdata/coordinates.json.
func table(t *testing.T) (examples []example) {
	raw, err := os.ReadFile("testdata/coordinates.json")
	if err == nil {
		err = json.Unmarshal(raw, &examples)
	}
	if err != nil || len(examples) == 0 {
		t.Fatalf("%d examples, %v", len(examples), err)
	}
	return examples
}

func TestRead(t *testing.T) {
	for _, x := range table(t) {
		got, problems := Read(x.Lat, x.Long)
		if same, _ := Read(" "+x.Lat, x.Long+" "); same != got { // not by the short way of plain numbers
			t.Errorf("Read(%q, %q) = %q; with blanks around it %q", x.Lat, x.Long, got, same)
		}
		wrong := map[string]string{}
		for _, p := range problems {
			wrong[p.Field] = string(p.Reason)
		}
		if len(wrong) != len(x.Wrong) || wrong["lat"] != x.Wrong["lat"] || wrong["long"] != x.Wrong["long"] {
			t.Errorf("Read(%q, %q) = %q, problems %v; want %v", x.Lat, x.Long, got, wrong, x.Wrong)
			continue
		}
		if x.Wrong != nil {
			continue
		}
		if x.Text != nil && (got.Lat != x.Text[0] || got.Long != x.Text[1]) {
			t.Errorf("Read(%q, %q) = %q; want the digits %q", x.Lat, x.Long, got, x.Text)
		}
		for i, text := range []string{got.Lat, got.Long} {
			v, err := strconv.ParseFloat(text, 64)
			if x.Want != nil && (err != nil || math.Abs(v-x.Want[i]) > 1e-6) {
				t.Errorf("Read(%q, %q) = %q; want %v", x.Lat, x.Long, got, x.Want)
			}
		}
	}
}
