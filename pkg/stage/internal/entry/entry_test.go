package entry

import (
	"reflect"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Whatever stands in a stream, reading it makes an entry and never a panic, and what is added anew
// for a retry says the same as what was read.
func FuzzParse(f *testing.F) {
	f.Add("1-1", "payload", "x", "id", "y", "at", "12")
	f.Add("", "tries", "-1", "crashes", "99999999999999999999", "at", "x")
	f.Add("18446744073709551615-18446744073709551615", "track", "1", "adopted", "1", "for", "g")
	f.Fuzz(func(t *testing.T, entry, k1, v1, k2, v2, k3, v3 string) {
		d := readOne(entry, k1, v1, k2, v2, k3, v3)
		if d.EventID == "" && entry != "" {
			t.Fatal("no event ID")
		}
		packed, fields := d.Fields("g", d.Tries, ""), map[string]string{}
		for list := Unpack(string(packed)); len(list) > 0; list = list[2:] {
			fields[list[0]] = list[1]
		}
		again := readOne(entry, flatten(fields)...)
		if again.EventID != d.EventID || string(again.Payload) != string(d.Payload) || again.At != d.At || again.Tries != d.Tries || again.For != "g" {
			t.Fatalf("read %+v, added anew %+v", d, again)
		}
	})
}

// readOne makes an entry of fields as go-redis reads them.
func readOne(id string, fields ...string) Entry {
	m := redis.XMessage{ID: id, Values: map[string]any{}}
	for i := 0; i+1 < len(fields); i += 2 {
		m.Values[fields[i]] = fields[i+1]
	}
	return Of(m)
}

// TestOf: an entry without an ID or a time of its own gets both from its entry ID; one without
// fields has lost its body; one without a payload keeps its fields.
func TestOf(t *testing.T) {
	for _, tc := range []struct {
		m    redis.XMessage
		want Entry
	}{
		{redis.XMessage{ID: "12-1", Values: map[string]any{"payload": "a\r\n$1\r\nb", "id": "x", "at": "7", "new": ""}},
			Entry{EntryID: "12-1", EventID: "x", At: 7, Payload: []byte("a\r\n$1\r\nb")}},
		{redis.XMessage{ID: "12-2"}, Entry{EntryID: "12-2", EventID: "12-2", At: 12, Bodiless: true}},
		{redis.XMessage{ID: "12-3", Values: map[string]any{"a": "b"}},
			Entry{EntryID: "12-3", EventID: "12-3", At: 12, NoPayload: true, Payload: []byte(`{"a":"b"}`)}},
	} {
		if got := Of(tc.m); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("Of(%+v) = %+v, want %+v", tc.m, got, tc.want)
		}
	}
}

func flatten(m map[string]string) (out []string) {
	for k, v := range m {
		out = append(out, k, v)
	}
	return out
}
