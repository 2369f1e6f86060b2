//go:build unix

package e2e

import (
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/services/weather/openmeteo"
)

// documented is a row of deploy/METRICS.md.
type documented struct {
	name, kind string
	labels     []string
	programs   []string // that have it; nil for all
}

var (
	heading = regexp.MustCompile(`^## (.*)$`)
	row     = regexp.MustCompile("^\\| `(\\w+)` \\| (counter|gauge|histogram) \\| ([a-z, ]*) ?\\| (.+) \\|$")
)

// metricsPage reads deploy/METRICS.md.
func metricsPage(t *testing.T) map[string]documented {
	t.Helper()
	b, err := os.ReadFile(root + "/deploy/METRICS.md")
	stagetest.OK(t, err)
	page := map[string]documented{}
	var programs []string
	for l := range strings.Lines(string(b)) {
		l = strings.TrimSpace(l)
		if m := heading.FindStringSubmatch(l); m != nil {
			programs = nil
			if m[1] != "Every program" {
				_, list, titled := strings.Cut(m[1], ": ")
				if !titled {
					list = m[1]
				}
				programs = strings.Split(list, ", ")
			}
			continue
		}
		m := row.FindStringSubmatch(l)
		if m == nil {
			if strings.HasPrefix(l, "| `") {
				t.Errorf("METRICS.md has a row that this test cannot read: %s", l)
			}
			continue
		}
		d := documented{name: m[1], kind: m[2], programs: programs}
		if list := strings.TrimSpace(m[3]); list != "" {
			d.labels = strings.Split(list, ", ")
			slices.Sort(d.labels)
		}
		if _, twice := page[d.name]; twice {
			t.Errorf("METRICS.md has %s twice", d.name)
		}
		page[d.name] = d
	}
	if len(page) < 50 {
		t.Fatalf("METRICS.md has %d metrics; this test cannot read it", len(page))
	}
	return page
}

// scrape parses a service's /metrics. Prometheus' linter must find nothing.
func (s *service) scrape() map[string]*dto.MetricFamily {
	s.T.Helper()
	text := s.page("/metrics")
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		s.T.Errorf("/metrics of %s: %v", s.Name, err)
	}
	for _, p := range problems {
		if !strings.HasPrefix(p.Metric, "go_") { // the Go client's own
			s.T.Errorf("/metrics of %s: %s: %s", s.Name, p.Metric, p.Text)
		}
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		s.T.Fatalf("/metrics of %s: %v", s.Name, err)
	}
	return families
}

// value returns the first metric of a family that has these labels, "name=value"; 0 if there is
// none.
func value(f *dto.MetricFamily, labels ...string) float64 {
	for _, m := range f.GetMetric() {
		matches := 0
		for _, l := range m.GetLabel() {
			if slices.Contains(labels, l.GetName()+"="+l.GetValue()) {
				matches++
			}
		}
		if matches == len(labels) {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return 0
}

// check compares what a program answered with the page.
func check(t *testing.T, program string, got map[string]*dto.MetricFamily, page map[string]documented) {
	t.Helper()
	for name, f := range got {
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") || strings.HasPrefix(name, "promhttp_") {
			continue
		}
		d, ok := page[name]
		if !ok {
			t.Errorf("%s has %s, which METRICS.md does not tell of", program, name)
			continue
		}
		if kind := strings.ToLower(f.GetType().String()); kind != d.kind {
			t.Errorf("%s of %s is a %s; METRICS.md says %s", name, program, kind, d.kind)
		}
		if f.GetHelp() == "" {
			t.Errorf("%s of %s has no help text", name, program)
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName())
				if strings.Contains(l.GetValue(), "@") || len(l.GetValue()) > 64 {
					t.Errorf("%s of %s has the label %s=%q, which a visitor sent", name, program, l.GetName(), l.GetValue())
				}
			}
			slices.Sort(labels)
			if !slices.Equal(labels, d.labels) {
				t.Errorf("%s of %s has the labels %v; METRICS.md says %v", name, program, labels, d.labels)
			}
		}
		if len(f.GetMetric()) > 40 {
			t.Errorf("%s of %s has %d series after a few requests", name, program, len(f.GetMetric()))
		}
	}
	for name, d := range page {
		has := d.programs == nil || slices.Contains(d.programs, program) || program == "standalone"
		if has && got[name] == nil {
			t.Errorf("%s does not have %s, which METRICS.md promises", program, name)
		}
	}
}

// exercise does something for every family of metrics.
func exercise(t *testing.T, p *pipeline, users, weather string) {
	t.Helper()
	web, id := p.web[0].url, p.submit(visits("visitor", 3)...)[2]
	p.cli("PUBLISH", event.RawInput, `{"email":"ada@example.com","lat":"91","long":"0"}`)
	p.cli("PUBLISH", event.RawInput, `{"email":"bare@example.com","lat":"1","long":"2"}`)
	stagetest.Eventually(t, "the emails are sent", func() bool { return p.sent().total == 4 })
	for _, q := range []struct {
		method, url string
		want        int
	}{
		{"GET", web + "/overview?lat=1&long=2&ids=" + id, 200},
		{"GET", web + "/no/such/page/ada@example.com", 404},
		{"GET", web + "/events/ada@example.com", 404},
		{"DELETE", web + "/distance", 405},
		{"BREW", web + "/", 405},
		{"GET", users + "/users/" + url.PathEscape("visitor-0@example.com"), 200},
		{"GET", users + "/users/" + url.PathEscape("nobody@example.com"), 404},
		{"GET", users + "/users/" + url.PathEscape("visitor-0@example.com"), 200},
		{"GET", weather + "/api/weather/paris", 200},
		{"GET", weather + "/api/weather?lat=91&long=0", 400},
		{"GET", weather + "/" + url.PathEscape("ada@example.com"), 404},
	} {
		if got, _, err := ask(t.Context(), q.method, q.url); err != nil || got != q.want {
			t.Errorf("%s %s: %d, %v; want %d", q.method, q.url, got, err, q.want)
		}
	}
}

// truth is what the programs must report after exercise.
var truth = []struct {
	program, family, labels string
	value                   float64
}{
	{"web-api", "http_requests_total", "method=POST route=/distance code=201", 3},
	{"web-api", "http_request_duration_seconds", "method=POST route=/distance", 3},
	{"web-api", "http_requests_total", "method=GET route=other code=404", 1},
	{"web-api", "http_requests_total", "method=GET route=/events/:id code=404", 1},
	{"web-api", "http_requests_total", "method=other code=405", 1},
	{"web-api", "milepost_submissions_total", "outcome=accepted", 3},
	{"web-api", "milepost_overview_parts_total", "part=weather outcome=came", 1},
	{"users", "http_requests_total", "method=GET route=/users/:email code=200", 2},
	{"users", "http_requests_total", "method=GET route=/submissions code=200", 1},
	{"weather", "http_requests_total", "method=GET route=/api/weather code=400", 1},
	{"weather", "http_requests_total", "route=other", 1},
	{"distance", "stage_dead_total", "stage=distance", 1},
	{"distance", "stage_settled_total", "outcome=forward", 4},
	{"distance", "stage_dead_letters", "stage=distance", 2},
	{"weather", "stage_dead_letters", "stage=weather", 2},
	{"email", "stage_backlog_entries", "stage=email", 0},
	{"email", "stage_consumers", "stage=email", 1},
	{"web-api", "stage_redis_memory_max_bytes", "", 512 << 20},
	{"users", "stage_redis_memory_max_bytes", "", 512 << 20},
	{"db", "stage_handled_total", "stage=db", 4},
	{"db", "milepost_mongo_pool_connections", "state=max", 100},
	{"email", "milepost_email_writer", "", 1},
	{"email", "milepost_email_log_lines_total", "", 4},
	{"email", "milepost_email_journal_events", "", 4},
}

// TestMetrics compares the metrics of every program with deploy/METRICS.md, both ways, and their
// values with what happened, on one Redis and on a Redis Cluster.
func TestMetrics(t *testing.T) {
	t.Run("one Redis", func(t *testing.T) {
		t.Parallel()
		p := newPipeline(t)
		stagetest.OK(t, p.rdb.ConfigSet(t.Context(), "maxmemory", "512mb").Err())
		metrics(t, p, 1)
	})
	t.Run("three masters", func(t *testing.T) {
		t.Parallel()
		c, cache := stagetest.ShardedOf(t, 3, false, "--maxmemory", "512mb"), stagetest.Real(t)
		metrics(t, newPipelineAt(t, c.URL(), c.Servers[0].Options(), "CACHE_REDIS_URL=redis://"+cache.Addr), 3)
	})
}

func metrics(t *testing.T, p *pipeline, masters int) {
	page, services := metricsPage(t), p.startWhole()
	exercise(t, p, services[0].url, services[1].url)
	p.idle()
	for _, s := range services {
		stagetest.Eventually(t, s.Name+" has had a tick since", func() bool {
			got := value(s.scrape()["stage_dead_letters"])
			return got == 2 || s.Name != "distance" && s.Name != "weather"
		})
	}
	by := map[string]map[string]*dto.MetricFamily{}
	for _, s := range services {
		by[s.Name] = s.scrape()
		check(t, s.Name, by[s.Name], page)
		if used := value(by[s.Name]["stage_redis_memory_used_bytes"]); used < 100<<10 || used > 256<<20 {
			t.Errorf("%s reports that Redis uses %v bytes", s.Name, used)
		}
		for _, name := range []string{"stage_redis_memory_used_bytes", "stage_redis_memory_max_bytes"} {
			if n := len(by[s.Name][name].GetMetric()); n != masters {
				t.Errorf("%s reports %s of %d nodes, want %d", s.Name, name, n, masters)
			}
		}
	}
	for _, want := range truth {
		if got := value(by[want.program][want.family], strings.Fields(want.labels)...); got != want.value {
			t.Errorf("%s of %s{%s} is %v, want %v", want.family, want.program, want.labels, got, want.value)
		}
	}
	if adopted := value(by["distance"]["stage_adopted_total"]) + value(by["weather"]["stage_adopted_total"]); adopted != 2 {
		t.Errorf("%v bare publishes were adopted, want 2", adopted)
	}

	standby := p.service("email")
	standby.Start()
	standby.Ready()
	got := standby.scrape()
	if value(got["milepost_email_writer"]) != 0 || got["milepost_email_journal_events"] == nil {
		t.Errorf("a standby reports that it writes: %v", got["milepost_email_writer"])
	}
	for _, s := range append(services, standby) {
		noAddress(t, s)
	}
}

// TestMetricsStandalone does the same with standalone.
func TestMetricsStandalone(t *testing.T) {
	t.Parallel()
	page := metricsPage(t)
	provider := openmeteo.Start(t)
	p, s := newStandalone(t, "WEATHER_PROVIDER_URL="+provider.URL, "GEOCODING_URL="+provider.URL, "RATE_LIMIT=off", "ADDRESS_LIMIT=off")
	address := regexp.MustCompile(`(?m)^  (Users|Weather) +(http://\S+?)/(users/ADDRESS|api/weather/CITY)$`)
	var at [][]string
	stagetest.Eventually(t, "standalone says where users and weather are", func() bool {
		at = address.FindAllStringSubmatch(s.Output(), -1)
		return len(at) == 2
	})
	exercise(t, p, at[0][2], at[1][2])
	var families map[string]*dto.MetricFamily
	stagetest.Eventually(t, "all events are settled", func() bool {
		families = s.scrape()
		return value(families["stage_settled_total"], "stage=email", "outcome=forward") == 4
	})
	// An embedded Redis does not report its memory.
	maps.DeleteFunc(page, func(name string, _ documented) bool { return strings.HasPrefix(name, "stage_redis_memory_") })
	check(t, "standalone", families, page)
	for _, part := range []string{"weather", "submissions"} {
		if n := value(families["milepost_overview_parts_total"], "part="+part, "outcome=came"); n != 1 {
			t.Errorf("%s came %v times for an overview, want once", part, n)
		}
	}
	pools := regexp.MustCompile(`milepost_redis_pool_connections\{client="\w+",state="max"\}`).FindAllString(s.page("/metrics"), -1)
	if len(pools) != 2 || !strings.Contains(pools[0], "cache") || !strings.Contains(pools[1], "pipeline") {
		t.Errorf("pools of connections %q, want those of the clients cache and pipeline", pools)
	}
	noAddress(t, s)
}

// noAddress fails the test if the service has logged an address. Our own log lines hide the local
// part.
func noAddress(t *testing.T, s *service) {
	t.Helper()
	for l := range strings.Lines(s.Output()) {
		if strings.Contains(l, "root INFO Email sent to:") { // the copy of the log
			continue
		}
		for _, name := range []string{"visitor", "good-", "ada@", "bare@", "nobody"} {
			if strings.Contains(l, name) {
				t.Errorf("%s logs an address: %s", s.Name, l)
			}
		}
	}
}
