package stage

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

// An entry that is settled while a reply with it is on its way is not taken for a new one; after the pass it would be.
func TestHeldDuringPass(t *testing.T) {
	var h held
	h.init(10)
	settle := func(entry string) { h.release([]settlement{{d: &delivery{entry: entry}}}) }
	if !h.add("1-1") || h.add("1-1") {
		t.Fatal("an entry is new once")
	}
	end := h.pass()
	settle("1-1")
	if h.add("1-1") {
		t.Error("an entry settled during the pass counts as new")
	}
	end()
	if !h.add("1-1") {
		t.Error("an entry that comes again after the pass does not count as new")
	}
}

// Any order of markers, announced batches and bare messages, seen from each of three subscribers that start at different
// places: every bare message after the first marker is adopted by exactly one of them, and no announced one by any.
func FuzzOwnership(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, uint16(200))
	}
	f.Fuzz(func(t *testing.T, seed uint64, n uint16) {
		r := rand.New(rand.NewPCG(seed, 1))
		owners := []*ownership{{token: "a"}, {token: "b"}, {token: "c"}}
		owned := false
		for range n % 2000 {
			switch r.IntN(4) {
			case 0: // someone takes the lease
				owned = true
				m := "owner:" + owners[r.IntN(len(owners))].token
				for _, o := range owners {
					o.announced(m)
				}
			case 1: // a script publishes a batch: nothing comes in between
				k := r.IntN(5)
				for _, o := range owners {
					o.announced(strconv.Itoa(k))
					for range k {
						if o.published() {
							t.Fatal("an announced message was adopted")
						}
					}
				}
			default:
				adopted := 0
				for _, o := range owners {
					if o.published() {
						adopted++
					}
				}
				if want := map[bool]int{true: 1}[owned]; adopted != want {
					t.Fatalf("a bare message was adopted by %d subscribers, want %d", adopted, want)
				}
			}
		}
	})
}

func TestOwnershipStartsOver(t *testing.T) {
	o := ownership{token: "a"}
	o.announced("owner:a")
	o.announced("3")
	o.published()
	o.announced("1") // two of the three never came: counted, and the new number holds
	if o.odd != 1 || o.published() || !o.published() {
		t.Errorf("after a cut announcement: odd = %d, want 1; then one skipped and the next adopted", o.odd)
	}
	for _, rubbish := range []string{"", "-1", "x", "owner", "9999999999999999999999"} {
		if o.announced(rubbish) {
			t.Errorf("announced(%q) says that someone else owns the channel", rubbish)
		}
	}
	if !o.announced("owner:") {
		t.Error("an empty token is a foreign one")
	}
}

// Whatever stands in a stream, reading it makes a delivery and never a panic, and what is added anew for a retry says the
// same as what was read.
func FuzzParse(f *testing.F) {
	f.Add("1-1", "payload", "x", "id", "y", "at", "12")
	f.Add("", "tries", "-1", "crashes", "99999999999999999999", "at", "x")
	f.Add("18446744073709551615-18446744073709551615", "track", "1", "adopted", "1", "for", "g")
	f.Fuzz(func(t *testing.T, entry, k1, v1, k2, v2, k3, v3 string) {
		d := readOne(t, entry, k1, v1, k2, v2, k3, v3)
		if d.id == "" && entry != "" {
			t.Fatal("no event ID")
		}
		packed, fields := d.fields("g", d.tries), map[string]string{}
		for list := unpackNetstrings(t, packed); len(list) > 0; list = list[2:] {
			fields[list[0]] = list[1]
		}
		again := readOne(t, entry, flatten(fields)...)
		if again.id != d.id || string(again.payload) != string(d.payload) || again.at != d.at || again.tries != d.tries || again.only != "g" {
			t.Fatalf("read %+v, added anew %+v", d, again)
		}
	})
}

// readOne reads an entry from a reply as Redis sends it.
func readOne(t *testing.T, entry string, fields ...string) *delivery {
	reply := bulk(nil, "in")
	reply = fmt.Appendf(reply, "*1\r\n*2\r\n")
	reply = bulk(reply, entry)
	reply = fmt.Appendf(reply, "*%d\r\n", len(fields))
	for _, f := range fields {
		reply = bulk(reply, f)
	}
	in, err := readReply(append([]byte("*1\r\n*2\r\n"), reply...), "in", time.Now())
	if err != nil || len(in) != 1 {
		t.Fatalf("readReply(%q): %d deliveries, %v; want 1", reply, len(in), err)
	}
	return &in[0]
}

func bulk(b []byte, s string) []byte { return fmt.Appendf(b, "$%d\r\n%s\r\n", len(s), s) }

// What Redis answers to a reader: nothing, entries, entries whose body is gone, and refusals, of which those that pass are told
// from those that need something done.
func TestReadReply(t *testing.T) {
	entry := func(id string, fields ...string) string {
		reply := fmt.Appendf(nil, "*2\r\n$%d\r\n%s\r\n*%d\r\n", len(id), id, len(fields))
		for _, f := range fields {
			reply = bulk(reply, f)
		}
		return string(reply)
	}
	for _, tc := range []struct {
		raw  string
		want []delivery
		err  string
		away bool
	}{
		{raw: "*-1\r\n"},
		{raw: "*1\r\n*2\r\n$2\r\nin\r\n*0\r\n", want: []delivery{}},
		{
			raw: "*1\r\n*2\r\n$2\r\nin\r\n*4\r\n" + entry("12-1", "payload", "a\r\n$1\r\nb", "id", "x", "at", "7", "new", "") +
				"*2\r\n$4\r\n12-2\r\n*-1\r\n" + entry("12-3") + "*2\r\n$4\r\n12-4\r\n*2\r\n$7\r\npayload\r\n$-1\r\n",
			want: []delivery{
				{entry: "12-1", id: "x", at: 7, payload: []byte("a\r\n$1\r\nb")}, {entry: "12-2", id: "12-2", at: 12, bodiless: true},
				{entry: "12-3", id: "12-3", at: 12}, {entry: "12-4", id: "12-4", at: 12},
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
		got, err := readReply([]byte(tc.raw), "in", time.Time{})
		for i := range tc.want {
			tc.want[i].channel = "in"
		}
		if !reflect.DeepEqual(got, tc.want) || (err == nil) != (tc.err == "") || err != nil && (!strings.Contains(err.Error(), tc.err) || away(err) != tc.away) {
			t.Errorf("readReply(%q) = %+v, %v; want %+v, an error with %q, Redis away: %v", tc.raw, got, err, tc.want, tc.err, tc.away)
		}
	}
}

// Whatever comes instead of a reply is an error and never a panic.
func FuzzReadReply(f *testing.F) {
	for _, s := range []string{
		"", "*-1\r\n", "*0\r\n", "-NOGROUP No such key\r\n", "*1\r\n*2\r\n$2\r\nin\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*-1\r\n",
		"*1\r\n*2\r\n$2\r\nin\r\n*999999999\r\n", "*1\r\n*2\r\n$99999999999\r\nin", "$9223372036854775807\r\n", "*1\r\n*2\r\n$-5\r\n*1\r\n*2\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		in, err := readReply(raw, "in", time.Now())
		if err != nil && in != nil {
			t.Errorf("readReply(%q): both %d deliveries and %v", raw, len(in), err)
		}
	})
}

func flatten(m map[string]string) (out []string) {
	for k, v := range m {
		out = append(out, k, v)
	}
	return out
}

// unpackNetstrings reads "3:abc" lists as lua/common.lua does.
func unpackNetstrings(t *testing.T, b []byte) (out []string) {
	for len(b) > 0 {
		i := 0
		for b[i] != ':' {
			i++
		}
		n, err := strconv.Atoi(string(b[:i]))
		if err != nil {
			t.Fatal(err)
		}
		out, b = append(out, string(b[i+1:i+1+n])), b[i+1+n:]
	}
	return out
}
