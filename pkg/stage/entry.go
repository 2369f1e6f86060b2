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
	at                              int64  // Unix time of the submission in milliseconds
	only                            string // the one group it is for, "" for all
	adopted, tracked, bodiless      bool
	tries, crashes                  int
	failure                         string // the error of the try just made, for whoever looks for the event
	read                            time.Time
	span                            string // traceparent of the span that handles it, "" if it is not traced
}

// field takes in one field of the entry; one it does not know is ignored. raw is value as bytes.
func (d *delivery) field(name, value string, raw []byte) {
	switch name {
	case "payload":
		d.payload = raw
	case "id":
		d.id = value
	case "at":
		if ms, err := strconv.ParseInt(value, 10, 64); err == nil {
			d.at = ms
		}
	case "traceparent":
		d.traceparent = value
	case "track":
		d.tracked = value == "1"
	case "adopted":
		d.adopted = value == "1"
	case "for":
		d.only = value
	case "tries":
		d.tries, _ = strconv.Atoi(value)
	case "crashes":
		d.crashes, _ = strconv.Atoi(value)
	}
}

// complete fills in what the entry did not say.
func (d *delivery) complete() {
	if d.at == 0 {
		d.at = entryMilli(d.entry)
	}
	if d.id == "" { // added by hand, without an event ID: the entry ID serves, as it is as lasting
		d.id = d.entry
	}
}

// submitted is when the event was; zero if nobody knows.
func (d *delivery) submitted() time.Time {
	if d.at == 0 {
		return time.Time{}
	}
	return time.UnixMilli(d.at)
}

// entryMilli is the Unix time in milliseconds in an entry ID, "ms-seq"; 0 if there is none.
func entryMilli(entry string) int64 {
	ms, _, _ := strings.Cut(entry, "-")
	n, err := strconv.ParseInt(ms, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// entryTime is the time in an entry ID; zero if there is none.
func entryTime(entry string) time.Time {
	if ms := entryMilli(entry); ms != 0 {
		return time.UnixMilli(ms)
	}
	return time.Time{}
}

// fields is the entry as it is added anew for group, as netstrings ("3:abc"), with the given tries.
func (d *delivery) fields(group string, tries int) []byte {
	var out []byte
	add := func(name, value string) { out = netstrings(out, name, value) }
	add("payload", string(d.payload))
	add("id", d.id)
	add("at", strconv.FormatInt(d.at, 10))
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
