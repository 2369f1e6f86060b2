// Package entry reads and writes the entries of a stream.
package entry

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"
)

// Entry is one record of a channel's stream.
type Entry struct {
	EntryID, EventID, Traceparent string
	Payload                       []byte
	At                            int64  // Unix time of the submission in milliseconds
	For                           string // the one group it is for, "" for all
	Adopted, Tracked, Bodiless    bool
	NoPayload                     bool // it had no field payload; Payload is what it had, as JSON
	Tries, Crashes                int
}

// Of makes an entry of what go-redis read.
func Of(m redis.XMessage) Entry {
	e := Entry{EntryID: m.ID, Bodiless: m.Values == nil}
	for name, value := range m.Values {
		text, _ := value.(string)
		e.Field(name, text)
	}
	if _, there := m.Values["payload"]; !there && !e.Bodiless {
		e.NoPayload, e.Payload = true, held(m.Values)
	}
	e.Complete()
	return e
}

// held is the fields of an entry as JSON. A value that is not UTF-8 is in base64.
func held(values map[string]any) []byte {
	fields := map[string]string{}
	for name, value := range values {
		text, _ := value.(string)
		if !utf8.ValidString(text) {
			name, text = name+" (base64)", base64.StdEncoding.EncodeToString([]byte(text))
		}
		fields[name] = text
	}
	out, _ := json.Marshal(fields) // a map of strings always is JSON
	return out
}

// Field sets one field of the entry, and ignores unknown ones.
func (e *Entry) Field(name, value string) {
	switch name {
	case "payload":
		e.Payload = []byte(value)
	case "id":
		e.EventID = value
	case "at":
		if ms, err := strconv.ParseInt(value, 10, 64); err == nil {
			e.At = ms
		}
	case "traceparent":
		e.Traceparent = value
	case "track":
		e.Tracked = value == "1"
	case "adopted":
		e.Adopted = value == "1"
	case "for":
		e.For = value
	case "tries":
		e.Tries, _ = strconv.Atoi(value)
	case "crashes":
		e.Crashes, _ = strconv.Atoi(value)
	}
}

// Complete sets what the entry did not have.
func (e *Entry) Complete() {
	if e.At == 0 {
		e.At = milli(e.EntryID)
	}
	if e.EventID == "" { // an entry that was added by hand
		e.EventID = e.EntryID
	}
}

// Submitted is the time of the submission, or zero.
func (e *Entry) Submitted() time.Time {
	if e.At == 0 {
		return time.Time{}
	}
	return time.UnixMilli(e.At)
}

// milli is the Unix time in milliseconds in an entry ID, "ms-seq", or 0.
func milli(entry string) int64 {
	ms, _, _ := strings.Cut(entry, "-")
	n, err := strconv.ParseInt(ms, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Time is the time in an entry ID, or zero.
func Time(entry string) time.Time {
	if ms := milli(entry); ms != 0 {
		return time.UnixMilli(ms)
	}
	return time.Time{}
}

// Fields returns the fields of the entry that replaces this one for group, packed.
func (e *Entry) Fields(group string, tries int, failure string) []byte {
	var out []byte
	add := func(name, value string) { out = Pack(out, name, value) }
	add("payload", string(e.Payload))
	add("id", e.EventID)
	add("at", strconv.FormatInt(e.At, 10))
	if e.Traceparent != "" {
		add("traceparent", e.Traceparent)
	}
	if e.Tracked {
		add("track", "1")
	}
	if e.Adopted {
		add("adopted", "1")
	}
	add("for", group)
	add("tries", strconv.Itoa(tries))
	add("crashes", strconv.Itoa(e.Crashes))
	if failure != "" {
		add("error", failure)
	}
	add("from", e.EntryID) // also makes the member of the sorted set unique
	return out
}

// Pack appends each string as "3:abc" (a netstring), the scripts' packed list.
func Pack(out []byte, list ...string) []byte {
	for _, s := range list {
		out = strconv.AppendInt(out, int64(len(s)), 10)
		out = append(out, ':')
		out = append(out, s...)
	}
	return out
}

// Unpack reads a packed list, up to the first mistake.
func Unpack(s string) (out []string) {
	for s != "" {
		head, rest, ok := strings.Cut(s, ":")
		var n int
		if _, err := fmt.Sscanf(head, "%d", &n); err != nil || !ok || n < 0 || n > len(rest) {
			return out
		}
		out = append(out, rest[:n])
		s = rest[n:]
	}
	return out
}

// Before tells whether entry ID a is below b.
func Before(a, b string) bool {
	var am, as, bm, bs uint64
	_, _ = fmt.Sscanf(a, "%d-%d", &am, &as) // what Redis wrote is an ID
	_, _ = fmt.Sscanf(b, "%d-%d", &bm, &bs)
	return cmp.Or(cmp.Compare(am, bm), cmp.Compare(as, bs)) < 0
}
