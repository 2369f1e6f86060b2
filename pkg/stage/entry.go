package stage

import (
	"strconv"
	"strings"
	"time"
)

// delivery is an entry in the hands of this process, from read to settle.
type delivery struct {
	entry, channel, id, traceparent string
	payload                         []byte
	body                            any // decoded payload; nil if undecodable
	at                              time.Time
	only                            string // the one group it is for, "" for all
	adopted, tracked, bodiless      bool
	tries, crashes                  int
	failure                         string // the error of the try just made, for whoever looks for the event
	read                            time.Time
	span                            string // traceparent of the span that handles it, "" if it is not traced
}

// parse makes a delivery of an entry as XREADGROUP replies it: ID and field/value list, nil if the body was trimmed.
func parse(channel string, raw []any, now time.Time) *delivery {
	d := &delivery{channel: channel, read: now}
	if len(raw) != 2 {
		return d
	}
	d.entry = text(raw[0])
	fields, ok := raw[1].([]any)
	d.bodiless = !ok
	for i := 0; i+1 < len(fields); i += 2 {
		v := text(fields[i+1])
		switch text(fields[i]) {
		case "payload":
			d.payload = []byte(v)
		case "id":
			d.id = v
		case "at":
			if ms, err := strconv.ParseInt(v, 10, 64); err == nil {
				d.at = time.UnixMilli(ms)
			}
		case "traceparent":
			d.traceparent = v
		case "track":
			d.tracked = v == "1"
		case "adopted":
			d.adopted = v == "1"
		case "for":
			d.only = v
		case "tries":
			d.tries, _ = strconv.Atoi(v)
		case "crashes":
			d.crashes, _ = strconv.Atoi(v)
		}
	}
	if d.at.IsZero() {
		d.at = entryTime(d.entry)
	}
	if d.id == "" { // added by hand, without an event ID: the entry ID serves, as it is as lasting
		d.id = d.entry
	}
	return d
}

// entryTime is the time in an entry ID, "ms-seq".
func entryTime(entry string) time.Time {
	ms, _, _ := strings.Cut(entry, "-")
	n, err := strconv.ParseInt(ms, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(n)
}

// fields is the entry as it is added anew for group, as netstrings ("3:abc"), with the given tries.
func (d *delivery) fields(group string, tries int) []byte {
	var out []byte
	add := func(name, value string) { out = netstrings(out, name, value) }
	add("payload", string(d.payload))
	add("id", d.id)
	add("at", strconv.FormatInt(d.at.UnixMilli(), 10))
	if d.traceparent != "" {
		add("traceparent", d.traceparent)
	}
	if d.tracked {
		add("track", "1")
	}
	if d.adopted {
		add("adopted", "1")
	}
	add("for", group)
	add("tries", strconv.Itoa(tries))
	add("crashes", strconv.Itoa(d.crashes))
	if d.failure != "" {
		add("error", d.failure)
	}
	add("from", d.entry) // makes the member of the sorted set this entry's own
	return out
}

// netstrings appends each string as "3:abc", the list format of the scripts.
func netstrings(out []byte, list ...string) []byte {
	for _, s := range list {
		out = strconv.AppendInt(out, int64(len(s)), 10)
		out = append(out, ':')
		out = append(out, s...)
	}
	return out
}
