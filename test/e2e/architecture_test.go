//go:build unix

package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/pkg/telemetry/otlptest"
)

// table reads the rows of the first table below a heading of ARCHITECTURE.md, without its head.
func table(t *testing.T, heading string) (rows [][]string) {
	t.Helper()
	_, text, found := strings.Cut(read(t, "ARCHITECTURE.md"), "\n"+heading+"\n")
	for l := range strings.Lines(text) {
		if l = strings.TrimSpace(l); strings.HasPrefix(l, "|") {
			var cells []string
			for _, c := range strings.Split(strings.Trim(l, "|"), " | ") {
				cells = append(cells, strings.TrimSpace(c))
			}
			rows = append(rows, cells)
		} else if len(rows) > 0 {
			break
		}
	}
	if !found || len(rows) < 3 {
		t.Fatalf("ARCHITECTURE.md has no table below %q", heading)
	}
	return rows[2:]
}

// coded finds the words in backticks.
func coded(cell string) (words []string) {
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
		words = append(words, m[1])
	}
	return words
}

// keyRow is a row of the table of keys.
type keyRow struct {
	name, kind string
	fields     []string // what its content names
	pattern    *regexp.Regexp
}

var placeholder = regexp.MustCompile(`<[\w ]+>`)

// keyRows reads the table of keys. The most special name comes first.
func keyRows(t *testing.T, channels []string) (rows []keyRow) {
	t.Helper()
	for _, cells := range table(t, "## Keys") {
		name := coded(cells[0])[0]
		pattern := strings.ReplaceAll(name, "<channel>", "("+strings.Join(channels, "|")+")")
		rows = append(rows, keyRow{name, cells[1], coded(cells[2]), regexp.MustCompile("^" + placeholder.ReplaceAllString(pattern, `[^:].*`) + "$")})
	}
	slices.SortFunc(rows, func(a, b keyRow) int { return strings.Count(b.name, ":") - strings.Count(a.name, ":") })
	return rows
}

// TestArchitectureNames runs all services and compares what is then in Redis with the tables of
// ARCHITECTURE.md, both ways: the channels with their writers, readers and payloads, the fields of
// entries, and the keys with their types.
func TestArchitectureNames(t *testing.T) {
	t.Parallel()
	p, _ := newWhole(t, "RATE_LIMIT=60", "OTEL_EXPORTER_OTLP_ENDPOINT="+otlptest.Start(t).URL)
	p.must("curl", "-fsS", p.web[0].url+"/distance", "-H", "Idempotency-Key: one", "-H", "Content-Type: application/json",
		"-d", `{"email":"ada@example.com","lat":"40.7128","long":"-74.0060","track":true}`)
	p.must("curl", "-fsS", p.web[0].url+"/distance", "-d", "email=form@example.com&lat=1&long=2&idempotency_key="+uuid.Must(uuid.NewV7()).String())
	p.cli("PUBLISH", event.RawInput, `{"email":"bare@example.com","lat":"1","long":"2"}`)
	p.cli("PUBLISH", event.RawInput, "no JSON")
	watch, err := http.Get(p.web[0].url + "/events?ids=" + uuid.NewString()) // an open page
	stagetest.OK(t, err)
	defer watch.Body.Close()
	p.cli("XADD", event.UserEmail, "*", "payload", "nobody@example.com", "id", uuid.NewString(), "crashes", "1") // is tried again and again
	p.written("ada@example.com", 1)
	p.written("bare@example.com", 1)

	channels := documentedChannels(t, p)
	documentedFields(t, p, channels)
	documentedKeys(t, p, channels)
}

// documentedChannels checks the table of channels, and returns their names.
func documentedChannels(t *testing.T, p *pipeline) (channels []string) {
	t.Helper()
	stages, err := p.look().Stages(t.Context())
	stagetest.OK(t, err)
	writers, readers := map[string][]string{}, map[string][]string{}
	for _, s := range stages { // by name
		for _, out := range s.Out {
			writers[out.Channel] = append(writers[out.Channel], s.Name)
		}
		if s.In != "" {
			readers[s.In] = append(readers[s.In], s.Name)
		}
	}
	for _, cells := range table(t, "### Channels") {
		name := coded(cells[0])[0]
		channels = append(channels, name)
		read := strings.Join(readers[name], ", ")
		if read == "" {
			read = "any listener"
		}
		if written := strings.Join(writers[name], ", "); cells[3] != written || cells[4] != read {
			t.Errorf("ARCHITECTURE.md: %s is written by %s and read by %s; the services say %s and %s", name, cells[3], cells[4], written, read)
		}
		stagetest.Eventually(t, name+" has an entry", func() bool { return p.rdb.XLen(t.Context(), name).Val() > 0 })
		payload := fmt.Sprint(p.rdb.XRangeN(t.Context(), name, "-", "+", 1).Val()[0].Values["payload"])
		key := regexp.MustCompile(`"\w+":`)
		if got, want := key.FindAllString(payload, -1), key.FindAllString(coded(cells[2])[0], -1); !slices.Equal(got, want) {
			t.Errorf("ARCHITECTURE.md: the example of %s has the keys %q; an entry has %q", name, want, got)
		}
	}
	slices.Sort(channels)
	if there := slices.Compact(slices.Sorted(maps.Keys(writers))); !slices.Equal(channels, there) {
		t.Errorf("ARCHITECTURE.md has the channels %q; the services write %q", channels, there)
	}
	return channels
}

// documentedFields checks the table of the fields of entries.
func documentedFields(t *testing.T, p *pipeline, channels []string) {
	t.Helper()
	missing := map[string]bool{}
	for _, cells := range table(t, "### A channel and its stream") {
		for _, field := range coded(cells[0]) {
			missing[field] = true
		}
	}
	documented := maps.Clone(missing)
	stagetest.Eventually(t, "entries have every documented field", func() bool {
		for _, c := range channels {
			for _, x := range p.rdb.XRange(t.Context(), c, "-", "+").Val() {
				for field := range x.Values {
					delete(missing, field)
					if !documented[field] {
						t.Fatalf("an entry of %s has the field %s, which ARCHITECTURE.md does not tell of", c, field)
					}
				}
			}
		}
		return len(missing) == 0
	})
}

// documentedKeys checks the table of keys.
func documentedKeys(t *testing.T, p *pipeline, channels []string) {
	t.Helper()
	rows := keyRows(t, channels)
	missing := map[string]bool{}
	for _, r := range rows {
		missing[r.name] = true
	}
	see := func(name, kind string) {
		i := slices.IndexFunc(rows, func(r keyRow) bool { return r.pattern.MatchString(name) })
		if i < 0 || kind != "channel" && !strings.HasPrefix(rows[i].kind, kind) {
			t.Fatalf("Redis has the %s %s, which ARCHITECTURE.md does not tell of", kind, name)
		}
		if kind != "channel" || strings.HasPrefix(rows[i].kind, kind) {
			delete(missing, rows[i].name)
		}
	}
	defer func() { t.Logf("not seen: %q", slices.Sorted(maps.Keys(missing))) }()
	stagetest.Eventually(t, "Redis has every documented key", func() bool {
		for _, key := range p.rdb.Keys(t.Context(), "*").Val() {
			kind := p.rdb.Type(t.Context(), key).Val()
			if kind == "zset" {
				kind = "sorted set"
			}
			if kind != "none" { // it has just gone
				see(key, kind)
			}
		}
		for _, channel := range p.rdb.PubSubChannels(t.Context(), "*").Val() {
			see(channel, "channel")
		}
		return len(missing) == 0
	})
	group := rows[slices.IndexFunc(rows, func(r keyRow) bool { return r.name == "<channel>:groups" })]
	for _, field := range p.rdb.HKeys(t.Context(), event.RawInput+":groups").Val() {
		if !slices.ContainsFunc(group.fields, func(f string) bool { return strings.HasPrefix(field, f) }) {
			t.Errorf("%s:groups has the field %s, which ARCHITECTURE.md does not tell of", event.RawInput, field)
		}
	}
}
