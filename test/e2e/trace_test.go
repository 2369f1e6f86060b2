//go:build unix

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage/inspect"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/pkg/telemetry/otlptest"
	"github.com/milepost/milepost/services/weather/openmeteo"
)

// tree draws the spans of a trace, a line each: service, kind and name, below their parents; siblings by start. It fails the
// test if a span hangs in the air, begins before its parent, or has an address.
func tree(t *testing.T, spans []otlptest.Span, trace string) string {
	t.Helper()
	byParent := map[string][]otlptest.Span{}
	byID := map[string]otlptest.Span{}
	for _, s := range spans {
		if s.Trace == trace {
			byParent[s.Parent] = append(byParent[s.Parent], s)
			byID[s.ID] = s
		}
		if strings.Contains(fmt.Sprint(s), "@") {
			t.Errorf("a span has an address: %+v", s)
		}
	}
	var lines []string
	var draw func(parent, indent string)
	draw = func(parent, indent string) {
		slices.SortStableFunc(byParent[parent], func(a, b otlptest.Span) int { // of two at once, by service: distance, weather
			return strings.Compare(a.Service, b.Service)
		})
		for _, s := range byParent[parent] {
			if p := byID[parent]; s.Start.Before(p.Start.Add(-time.Millisecond)) {
				t.Errorf("%s begins at %s, before its parent %s at %s", s.Name, s.Start, p.Name, p.Start)
			}
			failed := ""
			if s.Error != "" {
				failed = ": " + s.Error
			}
			lines = append(lines, indent+s.Service+" "+s.Kind+" "+s.Name+failed)
			draw(s.ID, indent+"  ")
		}
	}
	draw("", "")
	if len(lines) != len(byID) {
		t.Errorf("of the %d spans of the trace %s, %d have no parent in it", len(byID), trace, len(byID)-len(lines))
	}
	return "\n" + strings.Join(lines, "\n") + "\n"
}

// traceOf is the trace of an event, once a span of that name by that service has come.
func traceOf(t *testing.T, c *otlptest.Collector, id, service, name string) (trace string) {
	t.Helper()
	stagetest.Eventually(t, fmt.Sprintf("%s has told of %q for event %s", service, name, id), func() bool {
		for _, s := range c.Spans() {
			if s.Attributes["messaging.message.id"] == id {
				trace = s.Trace
			}
		}
		return trace != "" && slices.ContainsFunc(c.Spans(), func(s otlptest.Span) bool {
			return s.Trace == trace && s.Service == service && s.Name == name
		})
	})
	return trace
}

// TestTrace follows submissions through all programs, each a process of its own, into a collector.
func TestTrace(t *testing.T) {
	t.Parallel()
	collector := otlptest.Start(t)
	provider, err := openmeteo.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer provider.Close()
	p := newPipeline(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL, "OTEL_BSP_SCHEDULE_DELAY=50", "WEATHER_PROVIDER_URL="+provider.URL)
	reads := p.start("users", "weather")
	p.env = append(p.env, "USERS_URL="+reads[0].url, "WEATHER_URL="+reads[1].url)
	services := append(reads, p.start(all...)...)
	email := services[5]
	waitAdopted(t, p)
	look := p.look()
	waiting := func(n int) { // until that many events wait for email, which does not run
		t.Helper()
		stagetest.Eventually(t, fmt.Sprintf("%d events wait for email", n), func() bool {
			s, err := look.Status(t.Context(), event.UserEmail)
			if err != nil {
				t.Fatal(err)
			}
			return slices.ContainsFunc(s.Groups, func(g inspect.GroupStatus) bool { return g.Name == "email" && g.Backlog == n })
		})
	}
	eventuallyTree := func(trace, want string) {
		t.Helper()
		stagetest.Eventually(t, "the trace is whole:"+want, func() bool {
			n := 0
			for _, s := range collector.Spans() {
				if s.Trace == trace {
					n++
				}
			}
			return n >= strings.Count(want, "\n")-1
		})
		if got := tree(t, collector.Spans(), trace); got != want {
			t.Errorf("the trace is %s, want %s", got, want)
		}
	}

	// From the POST to the line, through all hops, and to whoever else reads.
	id := p.submit(visit{"ada@example.com", "40.7", "-74"})[0]
	trace := traceOf(t, collector, id, "email", "write sent_emails")
	eventuallyTree(trace, `
web-api server POST /distance
  web-api producer publish raw_input
    distance consumer process raw_input
      db consumer process calculated_distance
        email consumer process user:email
          email internal write sent_emails
        users consumer process user:email
    weather consumer process raw_input
`)
	for _, s := range collector.Spans() {
		if s.Trace == trace && (s.Kind == "producer" || s.Kind == "consumer") {
			for key, want := range map[string]string{"messaging.system": "redis", "messaging.message.id": id} {
				if s.Attributes[key] != want {
					t.Errorf("%s of %s has %s=%q, want %q", s.Name, s.Service, key, s.Attributes[key], want)
				}
			}
			if _, channel, _ := strings.Cut(s.Name, " "); s.Attributes["messaging.destination.name"] != channel {
				t.Errorf("%s of %s has the attributes %v", s.Name, s.Service, s.Attributes)
			}
		}
	}

	// Over a retry: the document is not there when email looks for it.
	email.Stop()
	id = p.submit(visit{"late@example.com", "1", "2"})[0]
	docs := p.users()
	docs.has(t, id)
	waiting(1)
	document := docs.take(t, id)
	email.Start()
	email.says("will be tried again")
	docs.give(t, document)
	trace = traceOf(t, collector, id, "email", "write sent_emails")
	var attempts []otlptest.Span
	for _, s := range collector.Spans() {
		if s.Trace == trace && s.Service == "email" && s.Name == "process user:email" {
			attempts = append(attempts, s)
		}
	}
	failed := strings.Repeat("        email consumer process user:email: error\n", len(attempts)-1)
	if len(attempts) < 2 {
		t.Fatalf("email handled the event once: %+v", attempts)
	}
	eventuallyTree(trace, `
web-api server POST /distance
  web-api producer publish raw_input
    distance consumer process raw_input
      db consumer process calculated_distance
`+failed+`        email consumer process user:email
          email internal write sent_emails
        users consumer process user:email
    weather consumer process raw_input
`)
	email.says("event=" + id)
	if want := "trace=" + trace; !strings.Contains(email.Output(), want) {
		t.Errorf("email's log does not tell the trace of what it tries again: no %q", want)
	}

	// Several at once: each trace is whole, and the batch is linked with all of them.
	email.Stop()
	ids := p.submit(visits("batch", 5)...)
	waiting(5)
	email.Start()
	var parents []string
	for _, id := range ids {
		trace := traceOf(t, collector, id, "email", "write sent_emails")
		for _, s := range collector.Spans() {
			if s.Trace == trace && s.Name == "process user:email" && s.Service == "email" {
				parents = append(parents, s.Parent)
				if len(s.Links) != 1 {
					t.Errorf("an event of a batch has the links %v, want one with the batch", s.Links)
				}
			}
		}
	}
	var batch otlptest.Span
	stagetest.Eventually(t, "the batch has a span", func() bool {
		i := slices.IndexFunc(collector.Spans(), func(s otlptest.Span) bool { return s.Service == "email" && s.Name == "process batch user:email" })
		if i >= 0 {
			batch = collector.Spans()[i]
		}
		return i >= 0
	})
	var linked []string
	for _, l := range batch.Links {
		linked = append(linked, l.ID)
	}
	slices.Sort(parents)
	slices.Sort(linked)
	if !slices.Equal(linked, parents) || batch.Attributes["messaging.batch.message_count"] != "5" || batch.Kind != "consumer" {
		t.Errorf("the batch %+v is linked with %v; its events come from %v", batch, linked, parents)
	}

	// A bare PUBLISH begins a trace of its own, one for both groups.
	if err := p.rdb.Publish(t.Context(), event.RawInput, `{"email":"bare@example.com","lat":"1","long":"2"}`).Err(); err != nil {
		t.Fatal(err)
	}
	var adopted otlptest.Span
	stagetest.Eventually(t, "the adoption has a span", func() bool {
		i := slices.IndexFunc(collector.Spans(), func(s otlptest.Span) bool { return s.Name == "adopt raw_input" })
		if i >= 0 {
			adopted = collector.Spans()[i]
		}
		return i >= 0
	})
	traceOf(t, collector, adopted.Attributes["messaging.message.id"], "email", "write sent_emails")
	eventuallyTree(adopted.Trace, fmt.Sprintf(`
%s producer adopt raw_input
  distance consumer process raw_input
    db consumer process calculated_distance
      email consumer process user:email
        email internal write sent_emails
      users consumer process user:email
  weather consumer process raw_input
`, adopted.Service))

	// The questions of web-api.
	if got := get(t, http.MethodGet, p.web[0].url+"/overview?lat=1&long=2&ids="+id); got != http.StatusOK {
		t.Errorf("GET /overview: %d", got)
	}
	stagetest.Eventually(t, "the overview has a span", func() bool {
		i := slices.IndexFunc(collector.Spans(), func(s otlptest.Span) bool { return s.Name == "GET /overview" })
		if i >= 0 {
			trace = collector.Spans()[i].Trace
		}
		return i >= 0
	})
	questions := func() (n int) {
		for _, s := range collector.Spans() {
			if s.Trace == trace {
				n++
			}
		}
		return n
	}
	stagetest.Eventually(t, "the overview's trace is whole", func() bool { return questions() >= 5 })
	got := tree(t, collector.Spans(), trace)
	for _, want := range []string{
		"\nweb-api server GET /overview\n", "\n  web-api client GET\n    users server GET /submissions\n", "\n  web-api client GET\n    weather server GET /api/weather\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the overview's trace is %s, which lacks %q", got, want)
		}
	}
	for _, s := range services {
		noAddress(t, s)
	}
}

// TestTraceCollectorAway: with a collector that is not there, or that never answers, the pipeline works and stops as without
// one, and says so once.
func TestTraceCollectorAway(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // connections are made and nobody takes them
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for name, endpoint := range map[string]string{"away": "http://127.0.0.1:1", "silent": "http://" + silent.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			p := newPipeline(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+endpoint, "OTEL_BSP_SCHEDULE_DELAY=20", "OTEL_EXPORTER_OTLP_TIMEOUT=1000")
			services := p.start(all...)
			first := visits("first", 200)
			p.submit(first...)
			p.delivered(addresses(first...)...)
			for _, s := range services {
				s.says("traces are not delivered")
			}
			second := visits("second", 200)
			p.submit(second...)
			p.delivered(addresses(append(first, second...)...)...)
			for _, s := range services {
				start := time.Now()
				s.Stop()
				if took := time.Since(start); took > 10*time.Second { // the drain's time; alone it takes a tenth of a second
					t.Errorf("%s took %s to stop", s.name, took)
				}
				warnings := slices.DeleteFunc(strings.Split(s.Output(), "\n"), func(l string) bool {
					return !strings.Contains(l, "level=WARN") || !strings.Contains(l, "traces")
				})
				if len(warnings) != 1 {
					t.Errorf("%s complains about its traces %d times, want once: %q", s.name, len(warnings), warnings)
				}
			}
		})
	}
}

// TestTraceStandalone: in one process it is the same trace, under the name that the operator gave it.
func TestTraceStandalone(t *testing.T) {
	t.Parallel()
	collector := otlptest.Start(t)
	p, s := newStandalone(t, "WEATHER_PROVIDER_URL=off", "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL, "OTEL_SERVICE_NAME=all-in-one")
	id := p.submit(visit{"ada@example.com", "40.7", "-74"})[0]
	s.says("Email sent to: ada@example.com")
	s.Stop() // which finishes what is under way and delivers the last spans
	want := `
all-in-one server POST /distance
  all-in-one producer publish raw_input
    all-in-one consumer process raw_input
      all-in-one consumer process calculated_distance
        all-in-one consumer process user:email
        all-in-one consumer process user:email
          all-in-one internal write sent_emails
    all-in-one consumer process raw_input
`
	trace := traceOf(t, collector, id, "all-in-one", "write sent_emails")
	if got := tree(t, collector.Spans(), trace); sorted(got) != sorted(want) { // who of two is first is up to them
		t.Errorf("the trace is %s, want %s", got, want)
	}
}

// sorted are the lines of text in order.
func sorted(text string) string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
