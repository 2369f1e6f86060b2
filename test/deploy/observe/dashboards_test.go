//go:build unix

package observe

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
)

// dashboard is what these tests look at of Grafana's model.
type dashboard struct {
	ID            *int   `json:"id"`
	UID           string `json:"uid"`
	Title         string `json:"title"`
	SchemaVersion int    `json:"schemaVersion"`
	Tags          []string
	Panels        []panel `json:"panels"`
	Templating    struct {
		List []struct {
			Name, Type, Definition, AllValue string
			Query                            any
			IncludeAll                       bool
		}
	}
}

type panel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string
	Description string
	Datasource  datasource
	GridPos     struct{ H, W, X, Y int }
	FieldConfig struct {
		Defaults struct{ Unit string }
	}
	Targets []struct {
		RefID, Expr, LegendFormat, Format string
		Datasource                        datasource
		Instant, Range                    bool
	}
	Panels []panel // of a folded row
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
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(b, &d); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		all[filepath.Base(p)] = d
	}
	return all
}

// units are those of Grafana's that the dashboards use.
var units = []string{"short", "none", "s", "bytes", "Bps", "cps", "reqps", "percentunit"}

func TestDashboards(t *testing.T) {
	uids := map[string]string{}
	for name, d := range dashboards(t) {
		if d.ID != nil || d.UID == "" || d.Title == "" || d.SchemaVersion < 36 {
			t.Errorf("%s: id %v, uid %q, title %q, schemaVersion %d", name, d.ID, d.UID, d.Title, d.SchemaVersion)
		}
		if other, ok := uids[d.UID]; ok {
			t.Errorf("%s and %s have the same uid", name, other)
		}
		uids[d.UID] = name
		variables := map[string]string{}
		for _, v := range d.Templating.List {
			variables[v.Name] = v.Type
			if v.Type == "query" && (!v.IncludeAll || v.AllValue != ".*") {
				t.Errorf("%s: variable %s leaves out series without the label when all are chosen", name, v.Name)
			}
		}
		if variables["datasource"] != "datasource" {
			t.Errorf("%s: the data source cannot be chosen; its variables are %v", name, variables)
		}
		ids, titles := map[int]bool{}, map[string]bool{}
		var taken [][4]int
		for _, p := range d.Panels {
			at := name + ": " + p.Title
			if p.ID <= 0 || ids[p.ID] {
				t.Errorf("%s: id %d is nothing, or another panel's", at, p.ID)
			}
			ids[p.ID] = true
			if p.Title == "" || titles[p.Title] {
				t.Errorf("%s: the title is missing or another panel's", at)
			}
			titles[p.Title] = true
			g := p.GridPos
			if g.W <= 0 || g.H <= 0 || g.X < 0 || g.X+g.W > 24 {
				t.Errorf("%s: it is at %+v, and the page is 24 wide", at, g)
			}
			for _, o := range taken {
				if g.X < o[0]+o[2] && o[0] < g.X+g.W && g.Y < o[1]+o[3] && o[1] < g.Y+g.H {
					t.Errorf("%s: it is at %+v, where there is another at %v", at, g, o)
				}
			}
			taken = append(taken, [4]int{g.X, g.Y, g.W, g.H})
			if p.Type == "row" {
				if len(p.Panels) > 0 || len(p.Targets) > 0 {
					t.Errorf("%s: these tests do not look into folded rows", at)
				}
				continue
			}
			if p.Description == "" {
				t.Errorf("%s: no description", at)
			}
			if !slices.Contains(units, p.FieldConfig.Defaults.Unit) {
				t.Errorf("%s: unit %q", at, p.FieldConfig.Defaults.Unit)
			}
			if len(p.Targets) == 0 {
				t.Errorf("%s: no query", at)
			}
			refs := map[string]bool{}
			for _, q := range p.Targets {
				for _, ds := range []datasource{p.Datasource, q.Datasource} {
					if ds != (datasource{"prometheus", "${datasource}"}) {
						t.Errorf("%s: its data source is %v, not the one that is chosen", at, ds)
					}
				}
				if q.RefID == "" || refs[q.RefID] {
					t.Errorf("%s: query %q is called %q, as another is", at, q.Expr, q.RefID)
				}
				refs[q.RefID] = true
				if q.Instant == q.Range {
					t.Errorf("%s: query %q is instant: %t, range: %t", at, q.Expr, q.Instant, q.Range)
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

// Every query of dashboards and rules runs against what the programs really export, and finds it.
func TestQueries(t *testing.T) {
	m, at := scraped(t)
	documented := metrics(t)
	for name, d := range dashboards(t) {
		for _, v := range d.Templating.List {
			if v.Type != "query" {
				continue
			}
			parts := regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`).FindStringSubmatch(v.Definition)
			if parts == nil {
				t.Errorf("%s: variable %s is %q, which these tests cannot read", name, v.Name, v.Definition)
				continue
			}
			if len(m.ask(t, parts[1]+"{"+parts[2]+`!=""}`, at)) == 0 {
				t.Errorf("%s: variable %s: %s has no label %s", name, v.Name, parts[1], parts[2])
			}
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				where := name + ": " + p.Title + ": " + q.Expr
				exists(t, where, filled(q.Expr), m, documented)
				got := m.ask(t, filled(q.Expr), at)
				if len(got) == 0 {
					t.Errorf("%s: no data", where)
				}
				for _, l := range legendLabel.FindAllStringSubmatch(q.LegendFormat, -1) {
					if len(got) > 0 && !got[0].Metric.Has(l[1]) {
						t.Errorf("%s: the legend has {{%s}}, the answer %s has not", where, l[1], got[0].Metric)
					}
				}
				legends := map[string]bool{}
				for _, s := range got {
					legend := legendLabel.ReplaceAllStringFunc(q.LegendFormat, func(l string) string {
						return s.Metric.Get(legendLabel.FindStringSubmatch(l)[1])
					})
					if q.Format != "table" && legends[legend] {
						t.Errorf("%s: two lines called %q", where, legend)
					}
					legends[legend] = true
				}
			}
		}
	}
	for _, r := range alerts(t) {
		exists(t, r.Alert, r.Expr, m, documented)
		if got := m.ask(t, r.Expr, at); len(got) > 0 {
			t.Errorf("%s: all is well, and yet it finds %v", r.Alert, got)
		}
	}
}

// exists checks each selector of a query: the programs have such a metric, with these labels, and each value it asks for
// has been seen or is in METRICS.md. What it groups by are labels of what it groups.
func exists(t *testing.T, where, query string, m memory, documented map[string]string) {
	t.Helper()
	expr, err := parser.ParseExpr(query)
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			has := m.labelsOf(n.Name)
			if len(has) == 0 {
				t.Errorf("%s: no program exports %s", where, n.Name)
				return nil
			}
			for _, matcher := range n.LabelMatchers {
				if matcher.Name == "__name__" || matcher.Value == ".*" {
					continue
				}
				seen, ok := has[matcher.Name]
				if !ok {
					t.Errorf("%s: %s has no label %s", where, n.Name, matcher.Name)
				}
				for _, value := range strings.Split(matcher.Value, "|") {
					row := documented[strings.TrimSuffix(n.Name, "_bucket")]
					if regexp.MustCompile(`^[\w ]+$`).MatchString(value) && !slices.Contains(seen, value) && !strings.Contains(row, value) && matcher.Name != "code" {
						t.Errorf("%s: no %s with %s=%q was seen, and METRICS.md names none", where, n.Name, matcher.Name, value)
					}
				}
			}
		case *parser.AggregateExpr:
			parser.Inspect(n.Expr, func(inner parser.Node, _ []parser.Node) error {
				if s, ok := inner.(*parser.VectorSelector); ok && !n.Without {
					has := m.labelsOf(s.Name)
					for _, l := range n.Grouping {
						if _, ok := has[l]; !ok && len(has) > 0 {
							t.Errorf("%s: it groups by %s, which %s has not", where, l, s.Name)
						}
					}
				}
				return nil
			})
		}
		return nil
	})
}

// labelsOf are the labels of a metric's series, each with its values.
func (m memory) labelsOf(name string) map[string][]string {
	out := map[string][]string{}
	for _, s := range m {
		if s.labels.Get("__name__") == name {
			for l, v := range s.labels.Map() {
				out[l] = append(out[l], v)
			}
		}
	}
	return out
}

// metrics are the rows of METRICS.md, by the metric's name.
func metrics(t testing.TB) map[string]string {
	t.Helper()
	b, err := os.ReadFile("../../../deploy/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` .*$").FindAllStringSubmatch(string(b), -1) {
		out[row[1]] = row[0]
	}
	if len(out) == 0 {
		t.Fatal("METRICS.md has no metrics")
	}
	return out
}
