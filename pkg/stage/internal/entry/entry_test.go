package entry

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/stage/internal/link"
)

// Whatever stands in a stream, reading it makes an entry and never a panic, and what is added anew for a retry says the
// same as what was read.
func FuzzParse(f *testing.F) {
	f.Add("1-1", "payload", "x", "id", "y", "at", "12")
	f.Add("", "tries", "-1", "crashes", "99999999999999999999", "at", "x")
	f.Add("18446744073709551615-18446744073709551615", "track", "1", "adopted", "1", "for", "g")
	f.Fuzz(func(t *testing.T, entry, k1, v1, k2, v2, k3, v3 string) {
		d := readOne(t, entry, k1, v1, k2, v2, k3, v3)
		if d.EventID == "" && entry != "" {
			t.Fatal("no event ID")
		}
		packed, fields := d.Fields("g", d.Tries, ""), map[string]string{}
		for list := Unpack(string(packed)); len(list) > 0; list = list[2:] {
			fields[list[0]] = list[1]
		}
		again := readOne(t, entry, flatten(fields)...)
		if again.EventID != d.EventID || string(again.Payload) != string(d.Payload) || again.At != d.At || again.Tries != d.Tries || again.For != "g" {
			t.Fatalf("read %+v, added anew %+v", d, again)
		}
	})
}

// readOne reads an entry from a reply as Redis sends it.
func readOne(t *testing.T, entry string, fields ...string) *Entry {
	reply := bulk(nil, "in")
	reply = fmt.Appendf(reply, "*1\r\n*2\r\n")
	reply = bulk(reply, entry)
	reply = fmt.Appendf(reply, "*%d\r\n", len(fields))
	for _, f := range fields {
		reply = bulk(reply, f)
	}
	in, err := Read(append([]byte("*1\r\n*2\r\n"), reply...))
	if err != nil || len(in) != 1 {
		t.Fatalf("Read(%q): %d entries, %v; want 1", reply, len(in), err)
	}
	return &in[0]
}

func bulk(b []byte, s string) []byte { return fmt.Appendf(b, "$%d\r\n%s\r\n", len(s), s) }

// What Redis answers to a reader: nothing, entries, entries whose body is gone, and refusals, of which those that pass are told
// from those that need something done.
func TestRead(t *testing.T) {
	entry := func(id string, fields ...string) string {
		reply := fmt.Appendf(nil, "*2\r\n$%d\r\n%s\r\n*%d\r\n", len(id), id, len(fields))
		for _, f := range fields {
			reply = bulk(reply, f)
		}
		return string(reply)
	}
	for _, tc := range []struct {
		raw  string
		want []Entry
		err  string
		away bool
	}{
		{raw: "*-1\r\n"},
		{raw: "*1\r\n*2\r\n$2\r\nin\r\n*0\r\n", want: []Entry{}},
		{
			raw: "*1\r\n*2\r\n$2\r\nin\r\n*4\r\n" + entry("12-1", "payload", "a\r\n$1\r\nb", "id", "x", "at", "7", "new", "") +
				"*2\r\n$4\r\n12-2\r\n*-1\r\n" + entry("12-3") + "*2\r\n$4\r\n12-4\r\n*2\r\n$7\r\npayload\r\n$-1\r\n",
			want: []Entry{
				{EntryID: "12-1", EventID: "x", At: 7, Payload: []byte("a\r\n$1\r\nb")}, {EntryID: "12-2", EventID: "12-2", At: 12, Bodiless: true},
				{EntryID: "12-3", EventID: "12-3", At: 12}, {EntryID: "12-4", EventID: "12-4", At: 12},
			},
		},
		{raw: "-NOGROUP No such key 'in' or consumer group 's'\r\n", err: "NOGROUP"},
		{raw: "-WRONGTYPE Operation against a key\r\n", err: "WRONGTYPE"},
		{raw: "-LOADING Redis is loading the dataset in memory\r\n", err: "LOADING", away: true},
		{raw: "-UNKILLABLE Sorry the script already executed write commands\r\n", err: "UNKILLABLE", away: true},
		{raw: "-MASTERDOWN Link with MASTER is down\r\n", err: "MASTERDOWN", away: true},
		{raw: "*1\r\n*2\r\n$2\r\nin\r\n-ERR in the middle\r\n", err: "not a reply", away: true},
		{raw: "+OK\r\n", err: "not a reply", away: true},
		{raw: "*1\r\n*2\r\n$2\r\nin\r\n*2\r\n" + entry("12-1", "payload", "x"), err: "not a reply", away: true},
	} {
		got, err := Read([]byte(tc.raw))
		if !reflect.DeepEqual(got, tc.want) || (err == nil) != (tc.err == "") || err != nil && (!strings.Contains(err.Error(), tc.err) || link.Away(err) != tc.away) {
			t.Errorf("Read(%q) = %+v, %v; want %+v, an error with %q, Redis away: %v", tc.raw, got, err, tc.want, tc.err, tc.away)
		}
	}
}

// Whatever comes instead of a reply is an error and never a panic.
func FuzzRead(f *testing.F) {
	for _, s := range []string{
		"", "*-1\r\n", "*0\r\n", "-NOGROUP No such key\r\n", "*1\r\n*2\r\n$2\r\nin\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*-1\r\n",
		"*1\r\n*2\r\n$2\r\nin\r\n*999999999\r\n", "*1\r\n*2\r\n$99999999999\r\nin", "$9223372036854775807\r\n", "*1\r\n*2\r\n$-5\r\n*1\r\n*2\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		in, err := Read(raw)
		if err != nil && in != nil {
			t.Errorf("Read(%q): both %d entries and %v", raw, len(in), err)
		}
	})
}

func flatten(m map[string]string) (out []string) {
	for k, v := range m {
		out = append(out, k, v)
	}
	return out
}
