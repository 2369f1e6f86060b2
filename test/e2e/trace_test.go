//go:build unix

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage/inspect"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/pkg/telemetry/otlptest"
)

// traces are the spans that have come to a collector.
type traces struct{ *otlptest.Collector }

// spans finds the spans of a trace that a service made under a name, in the order of their start.
// "" stands for any.
func (c traces) spans(trace, service, name string) []otlptest.Span {
	return slices.DeleteFunc(c.Spans(), func(s otlptest.Span) bool {
		return trace != "" && s.Trace != trace || service != "" && s.Service != service || name != "" && s.Name != name
	})
}

// first waits for such a span and returns the first.
func (c traces) first(t *testing.T, trace, service, name string) (s otlptest.Span) {
	t.Helper()
	stagetest.Eventually(t, fmt.Sprintf("the span %q of %q has come", name, service), func() bool {
		found := c.spans(trace, service, name)
		if len(found) > 0 {
			s = found[0]
		}
		return len(found) > 0
	})
	return s
}

// of returns the trace of an event once its line is written.
func (c traces) of(t *testing.T, id string) (trace string) {
	t.Helper()
	stagetest.Eventually(t, "event "+id+" has a trace", func() bool {
		i := slices.IndexFunc(c.Spans(), func(s otlptest.Span) bool { return s.Attributes["messaging.message.id"] == id })
		if i >= 0 {
			trace = c.Spans()[i].Trace
		}
		return i >= 0
	})
	c.first(t, trace, "", "write sent_emails")
	return trace
}

// is waits until a trace has as many spans as want has lines, and compares them.
func (c traces) is(t *testing.T, trace, want string) {
	t.Helper()
	stagetest.Eventually(t, "the trace is whole:"+want, func() bool {
		return len(c.spans(trace, "", "")) >= strings.Count(want, "\n")-1
	})
	if got := "\n" + tree(t, c.spans(trace, "", ""), "", ""); got != want {
		t.Errorf("the trace is %s, want %s", got, want)
	}
}

// tree draws the spans below a parent, a line each: service, kind and name. Siblings are in the
// order of their lines. It fails the test if a span begins before its parent or has an address.
func tree(t *testing.T, spans []otlptest.Span, parent, indent string) string {
	t.Helper()
	var below []string
	for _, s := range spans {
		if strings.Contains(fmt.Sprint(s), "@") {
			t.Errorf("a span has an address: %+v", s)
		}
		if s.Parent != parent {
			continue
		}
		if i := slices.IndexFunc(spans, func(p otlptest.Span) bool { return p.ID == parent }); i >= 0 && s.Start.Before(spans[i].Start.Add(-time.Millisecond)) {
			t.Errorf("%s begins at %s, before its parent %s at %s", s.Name, s.Start, spans[i].Name, spans[i].Start)
		}
		line := indent + s.Service + " " + s.Kind + " " + s.Name
		if s.Error != "" {
			line += ": " + s.Error
		}
		below = append(below, line+"\n"+tree(t, spans, s.ID, indent+"  "))
	}
	slices.Sort(below)
	return strings.Join(below, "")
}

// TestTrace follows submissions through all programs, each a process of its own, into a collector.
func TestTrace(t *testing.T) {
	t.Parallel()
	c := traces{otlptest.Start(t)}
	p, services := newWhole(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.URL, "OTEL_BSP_SCHEDULE_DELAY=50")
	t.Run("all stages", func(t *testing.T) { traceAllStages(t, p, c) })
	t.Run("retry", func(t *testing.T) { traceRetry(t, p, c, services[5]) })
	t.Run("batch", func(t *testing.T) { traceBatch(t, p, c, services[5]) })
	t.Run("bare publish", func(t *testing.T) { traceBare(t, p, c) })
	t.Run("overview", func(t *testing.T) { traceOverview(t, p, c) })
	for _, s := range services {
		noAddress(t, s)
	}
}

// One trace goes from the POST to the line, through all stages, and to all others that read.
func traceAllStages(t *testing.T, p *pipeline, c traces) {
	id := p.submit(visit{"ada@example.com", "40.7", "-74"})[0]
	trace := c.of(t, id)
	c.is(t, trace, `
web-api server POST /distance
  web-api producer publish raw_input
    distance consumer process raw_input
      db consumer process calculated_distance
        email consumer process user:email
          email internal write sent_emails
        users consumer process user:email
    weather consumer process raw_input
`)
	for _, s := range c.spans(trace, "", "") {
		if s.Kind != "producer" && s.Kind != "consumer" {
			continue
		}
		_, channel, _ := strings.Cut(s.Name, " ")
		want := map[string]string{"messaging.system": "redis", "messaging.message.id": id, "messaging.destination.name": channel}
		if s.Kind == "consumer" {
			want["messaging.operation.type"], want["messaging.consumer.group.name"] = "process", s.Service
		}
		for key, want := range want {
			if s.Attributes[key] != want {
				t.Errorf("%s of %s has %s=%q, want %q", s.Name, s.Service, key, s.Attributes[key], want)
			}
		}
	}
}

// waiting waits until n events wait for email, which does not run.
func waiting(t *testing.T, p *pipeline, n int) {
	t.Helper()
	look := p.look()
	stagetest.Eventually(t, fmt.Sprintf("%d events wait for email", n), func() bool {
		s, err := look.Status(t.Context(), event.UserEmail)
		stagetest.OK(t, err)
		return slices.ContainsFunc(s.Groups, func(g inspect.GroupStatus) bool { return g.Name == "email" && g.Backlog == n })
	})
}

// All tries of an event are in its trace. Here the document is missing when email looks for it
// first.
func traceRetry(t *testing.T, p *pipeline, c traces, email *service) {
	email.Stop()
	id := p.submit(visit{"late@example.com", "1", "2"})[0]
	docs := p.users()
	docs.has(t, id)
	waiting(t, p, 1)
	document := docs.take(t, id)
	email.Start()
	email.Says("will be tried again")
	docs.give(t, document)
	trace := c.of(t, id)
	writer, tries := c.first(t, trace, "email", "write sent_emails").Parent, 0
	stagetest.Eventually(t, "the span of the try that wrote the line has come", func() bool {
		all := c.spans(trace, "email", "process user:email")
		i := slices.IndexFunc(all, func(s otlptest.Span) bool { return s.ID == writer })
		if i >= 0 {
			before, err := strconv.Atoi(all[i].Attributes["milepost.tries"])
			stagetest.OK(t, err)
			tries = before + 1
		}
		return i >= 0
	})
	if tries < 2 {
		t.Fatalf("email has handled the event %d times, want 2 or more", tries)
	}
	c.is(t, trace, `
web-api server POST /distance
  web-api producer publish raw_input
    distance consumer process raw_input
      db consumer process calculated_distance
        email consumer process user:email
          email internal write sent_emails
`+strings.Repeat("        email consumer process user:email: error\n", tries-1)+`        users consumer process user:email
    weather consumer process raw_input
`)
	email.Says("event=" + id)
	email.Says("trace=" + trace)
}

// A batch has a span of its own, which is linked with its events. Each event's trace is whole.
func traceBatch(t *testing.T, p *pipeline, c traces, email *service) {
	email.Stop()
	ids := p.submit(visits("batch", 5)...)
	waiting(t, p, 5)
	email.Start()
	var parents, linked []string
	for _, id := range ids {
		s := c.first(t, c.of(t, id), "email", "process user:email")
		parents = append(parents, s.Parent)
		if len(s.Links) != 1 {
			t.Errorf("an event of a batch has the links %v, want one with the batch", s.Links)
		}
	}
	batch := c.first(t, "", "email", "process batch user:email")
	for _, l := range batch.Links {
		linked = append(linked, l.ID)
	}
	slices.Sort(parents)
	slices.Sort(linked)
	if !slices.Equal(linked, parents) || batch.Attributes["messaging.batch.message_count"] != "5" || batch.Kind != "consumer" {
		t.Errorf("the batch %+v is linked with %v; its events come from %v", batch, linked, parents)
	}
}

// A bare PUBLISH begins a trace of its own, one for both groups.
func traceBare(t *testing.T, p *pipeline, c traces) {
	p.cli("PUBLISH", event.RawInput, `{"email":"bare@example.com","lat":"1","long":"2"}`)
	adopted := c.first(t, "", "", "adopt raw_input")
	c.is(t, c.of(t, adopted.Attributes["messaging.message.id"]), "\n"+adopted.Service+` producer adopt raw_input
  distance consumer process raw_input
    db consumer process calculated_distance
      email consumer process user:email
        email internal write sent_emails
      users consumer process user:email
  weather consumer process raw_input
`)
	if s := c.first(t, adopted.Trace, "distance", "process raw_input"); s.Attributes["milepost.adopted"] != "true" {
		t.Errorf("the attributes of an adopted event are %v, want milepost.adopted", s.Attributes)
	}
}

// An overview's trace has the requests to users and weather. One of them may come too late for an
// overview.
func traceOverview(t *testing.T, p *pipeline, c traces) {
	id := p.submit(visit{"overview@example.com", "1", "2"})[0]
	const want = `
web-api server GET /overview
  web-api client GET
    users server GET /submissions
  web-api client GET
    weather server GET /api/weather
`
	stagetest.Eventually(t, "the trace of an overview is"+want, func() bool {
		if got, _, err := ask(t.Context(), http.MethodGet, p.web[0].url+"/overview?lat=1&long=2&ids="+id); got != http.StatusOK {
			t.Errorf("GET /overview: %d, %v", got, err)
		}
		time.Sleep(100 * time.Millisecond) // spans are on their way
		return slices.ContainsFunc(c.spans("", "web-api", "GET /overview"), func(s otlptest.Span) bool {
			return "\n"+tree(t, c.spans(s.Trace, "", ""), "", "") == want
		})
	})
}

// TestTraceCollectorAway runs without a collector, and with one that never answers. The pipeline
// works and stops as ever, and each program says so once.
func TestTraceCollectorAway(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections and does not answer
	stagetest.OK(t, err)
	defer silent.Close()
	for name, endpoint := range map[string]string{"away": "http://127.0.0.1:1", "silent": "http://" + silent.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			p := newPipeline(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+endpoint, "OTEL_BSP_SCHEDULE_DELAY=20", "OTEL_EXPORTER_OTLP_TIMEOUT=1000")
			services := p.start(all...)
			first, second := visits("first", 200), visits("second", 200)
			p.submit(first...)
			p.delivered(addresses(first...)...)
			for _, s := range services {
				s.Says("traces are not delivered")
			}
			p.submit(second...)
			p.delivered(addresses(append(first, second...)...)...)
			for _, s := range services {
				s.Stop() // its status is 0 only if the drain ended in time
				warnings := slices.DeleteFunc(strings.Split(s.Output(), "\n"), func(l string) bool {
					return !strings.Contains(l, "level=WARN") || !strings.Contains(l, "traces")
				})
				if len(warnings) != 1 {
					t.Errorf("%s complains about its traces %d times, want once: %q", s.Name, len(warnings), warnings)
				}
			}
		})
	}
}

// TestTraceStandalone sees the same trace from one process, under the name that the operator gave
// it.
func TestTraceStandalone(t *testing.T) {
	t.Parallel()
	c := traces{otlptest.Start(t)}
	p, s := newStandalone(t, "WEATHER_PROVIDER_URL=off", "OTEL_EXPORTER_OTLP_ENDPOINT="+c.URL, "OTEL_SERVICE_NAME=all-in-one")
	id := p.submit(visit{"ada@example.com", "40.7", "-74"})[0]
	s.Says("Email sent to: ada@example.com")
	s.Stop() // which finishes what is under way and delivers the last spans
	c.is(t, c.of(t, id), `
all-in-one server POST /distance
  all-in-one producer publish raw_input
    all-in-one consumer process raw_input
    all-in-one consumer process raw_input
      all-in-one consumer process calculated_distance
        all-in-one consumer process user:email
        all-in-one consumer process user:email
          all-in-one internal write sent_emails
`)
}
