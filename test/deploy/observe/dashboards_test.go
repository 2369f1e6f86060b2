package observe

import (
	"cmp"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// dashboard is what these tests look at of Grafana's model.
type dashboard struct {
	UID, Title string
	Panels     []panel
	Templating struct {
		List []struct {
			Name, Type, Definition, AllValue string
			IncludeAll                       bool
		}
	}
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               datasource
	Targets                  []struct {
		RefID, Expr, LegendFormat, Format string
		Datasource                        datasource
	}
}

type datasource struct{ Type, UID string }

func dashboards(t testing.TB) map[string]dashboard {
	t.Helper()
	paths, err := filepath.Glob(files + "dashboards/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	all := map[string]dashboard{}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		stagetest.OK(t, err)
		var d dashboard
		if err := json.Unmarshal(b, &d); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		all[filepath.Base(p)] = d
	}
	return all
}

// Dashboards can be imported side by side, ask the data source that is chosen, and explain each
// panel.
func TestDashboards(t *testing.T) {
	uids := map[string]string{}
	for name, d := range dashboards(t) {
		if other, ok := uids[d.UID]; ok || d.UID == "" || d.Title == "" {
			t.Errorf("%s: uid %q, title %q; %q has the same uid", name, d.UID, d.Title, other)
		}
		uids[d.UID] = name
		for _, v := range d.Templating.List {
			if v.Type == "query" && (!v.IncludeAll || v.AllValue != ".*") {
				t.Errorf("%s: variable %s leaves out series without the label when all are chosen", name, v.Name)
			}
		}
		ids, titles := map[int]bool{}, map[string]bool{}
		for _, p := range d.Panels {
			at := name + ": " + p.Title
			if p.ID <= 0 || ids[p.ID] || p.Title == "" || titles[p.Title] {
				t.Errorf("%s: id %d and title must be there, and no other panel's", at, p.ID)
			}
			ids[p.ID], titles[p.Title] = true, true
			if p.Type != "row" && (p.Description == "" || len(p.Targets) == 0) {
				t.Errorf("%s: no description or no query", at)
			}
			for _, q := range p.Targets {
				if chosen := (datasource{"prometheus", "${datasource}"}); p.Datasource != chosen || q.Datasource != chosen {
					t.Errorf("%s: its data source is %v, %v, not the one that is chosen", at, p.Datasource, q.Datasource)
				}
				if strings.Contains(q.Expr, "rate(") && !strings.Contains(q.Expr, "$__rate_interval") {
					t.Errorf("%s: the window of %q does not grow with the time that is shown", at, q.Expr)
				}
			}
		}
	}
}

// filled is a query as Grafana sends it when everything is chosen.
func filled(query string) string {
	return strings.NewReplacer("$namespace", ".*", "$__rate_interval", "4m").Replace(query)
}

var legendLabel = regexp.MustCompile(`{{\s*(\w+)\s*}}`)

// Every query of dashboards and rules asks for metrics, labels and values that are in METRICS.md,
// which a test of test/e2e compares with what the programs export. Over such series it has an
// answer.
func TestQueries(t *testing.T) {
	m, page := memory{}, metrics(t)
	for _, r := range alerts(t) {
		m.sample(t, r.Alert, r.Expr, page)
	}
	for name, d := range dashboards(t) {
		for _, v := range d.Templating.List {
			parts := regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`).FindStringSubmatch(v.Definition)
			if v.Type == "query" && parts == nil {
				t.Errorf("%s: variable %s is %q, which these tests cannot read", name, v.Name, v.Definition)
			} else if v.Type == "query" {
				m.sample(t, name, "count by ("+parts[2]+") ("+parts[1]+")", page)
			}
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				where, query := name+": "+p.Title+": "+q.Expr, filled(q.Expr)
				m.sample(t, where, query, page)
				got := m.ask(t, query, time.Unix(4*60, 0))
				if len(got) == 0 {
					t.Errorf("%s: no data", where)
				}
				legends := map[string]bool{}
				for _, s := range got {
					legend := legendLabel.ReplaceAllStringFunc(q.LegendFormat, func(l string) string {
						label := legendLabel.FindStringSubmatch(l)[1]
						if !s.Metric.Has(label) {
							t.Errorf("%s: the legend has {{%s}}, the answer %s has not", where, label, s.Metric)
						}
						return s.Metric.Get(label)
					})
					if q.Format != "table" && legends[legend] {
						t.Errorf("%s: two lines called %q", where, legend)
					}
					legends[legend] = true
				}
			}
		}
	}
}

// target are the labels that Prometheus adds to what it scrapes from a pod, and those of histograms
// and summaries.
var target = []string{"app", "job", "namespace", "pod", "container", "instance", "le", "quantile"}

// sample checks the selectors of a query against METRICS.md, and writes a series for each value
// that it asks for.
func (m memory) sample(t *testing.T, where, query string, page map[string]metric) {
	t.Helper()
	expr, err := parser.ParseExpr(query)
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	parser.Inspect(expr, func(n parser.Node, path []parser.Node) error {
		s, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		has, ok := page[strings.TrimSuffix(s.Name, "_bucket")]
		if !ok || strings.HasSuffix(s.Name, "_bucket") && has.kind != "histogram" {
			t.Errorf("%s: no program exports %s", where, s.Name)
			return nil
		}
		known := append(slices.Clone(target), has.labels...)
		for _, above := range path {
			if a, ok := above.(*parser.AggregateExpr); ok && !a.Without {
				for _, l := range a.Grouping {
					if !slices.Contains(known, l) {
						t.Errorf("%s: it groups by %s, which %s has not", where, l, s.Name)
					}
				}
			}
		}
		all := []map[string]string{{"__name__": s.Name}}
		for _, l := range known {
			all[0][l] = map[string]string{"le": "+Inf", "app": "milepost"}[l]
		}
		for _, l := range known {
			all[0][l] = cmp.Or(all[0][l], "x")
		}
		for _, asked := range s.LabelMatchers {
			if !slices.Contains(append(known, "__name__"), asked.Name) {
				t.Errorf("%s: %s has no label %s", where, s.Name, asked.Name)
			}
			if asked.Matches("x") || asked.Matches("milepost") || asked.Name == "__name__" {
				continue
			}
			var more []map[string]string
			for value := range strings.SplitSeq(asked.Value, "|") {
				if regexp.MustCompile(`^[\w ]+$`).MatchString(value) && !regexp.MustCompile(`\b`+value+`\b`).MatchString(has.values) && !slices.Contains(stages, value) {
					t.Errorf("%s: METRICS.md names no %s with %s=%q", where, s.Name, asked.Name, value)
				}
				for _, l := range all {
					l = maps.Clone(l)
					l[asked.Name] = strings.NewReplacer(".*", "x", "..", "00").Replace(value)
					more = append(more, l)
				}
			}
			all = more
		}
		for _, l := range all {
			if l := labels.FromMap(l); m[l.String()] == nil {
				for minute := range 5 {
					m.add(l, time.Unix(int64(60*minute), 0), float64(minute))
				}
			}
		}
		return nil
	})
}

var stages = []string{"distance", "db", "email", "weather", "users"}

// metric is a row of METRICS.md.
type metric struct {
	kind   string
	labels []string
	values string // the meaning, which has the values of labels, without what is in brackets
}

// metrics are the rows of METRICS.md, and what every Go program exports.
func metrics(t testing.TB) map[string]metric {
	t.Helper()
	b, err := os.ReadFile("../../../deploy/METRICS.md")
	stagetest.OK(t, err)
	out := map[string]metric{"up": {}}
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (\\w+) \\| ([^|]*)\\| (.*) \\|$").FindAllStringSubmatch(string(b), -1) {
		out[m[1]] = metric{m[2], strings.FieldsFunc(m[3], func(r rune) bool { return r == ',' || r == ' ' }), regexp.MustCompile(`\([^)]*\)`).ReplaceAllString(m[4], "")}
	}
	if len(out) < 50 {
		t.Fatalf("METRICS.md has %d metrics", len(out))
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	families, err := registry.Gather()
	stagetest.OK(t, err)
	for _, f := range families {
		out[f.GetName()] = metric{}
	}
	return out
}
