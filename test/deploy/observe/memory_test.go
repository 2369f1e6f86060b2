package observe

import (
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

// memory holds what Prometheus' storage would: the samples of each series, oldest first, by the
// series' labels. Prometheus' own test storage brings its whole database and the clients of every
// cloud.
type memory map[string]*promql.Series

// add appends a sample.
func (m memory) add(l labels.Labels, at time.Time, v float64) {
	s := m[l.String()]
	if s == nil {
		s = &promql.Series{Metric: l}
		m[l.String()] = s
	}
	s.Floats = append(s.Floats, promql.FPoint{T: at.UnixMilli(), F: v})
}

// every is the time between the samples of a written series, and between evaluations of a rule.
const every = 15 * time.Second

// write adds series in the notation of promtool's tests, such as `up{job="milepost"} 1x8 0x20`: 9
// ones, then 21 zeros.
func (m memory) write(t testing.TB, lines ...string) {
	t.Helper()
	for _, line := range lines {
		l, values, err := parser.ParseSeriesDesc(line)
		if err != nil {
			t.Fatalf("series %s: %v", line, err)
		}
		for i, v := range values {
			if !v.Omitted {
				m.add(l, time.Unix(0, 0).Add(time.Duration(i)*every), v.Value)
			}
		}
	}
}

var engine = promql.NewEngine(promql.EngineOpts{MaxSamples: 1_000_000, Timeout: time.Minute})

// ask evaluates a query whose value is a vector or a scalar.
func (m memory) ask(t testing.TB, query string, at time.Time) promql.Vector {
	t.Helper()
	q, err := engine.NewInstantQuery(t.Context(), &storage.MockQueryable{MockQuerier: &storage.MockQuerier{SelectMockFunction: m.find}}, nil, query, at)
	if err != nil {
		t.Fatalf("query %s: %v", query, err)
	}
	defer q.Close()
	r := q.Exec(t.Context())
	if r.Err != nil {
		t.Fatalf("query %s: %v", query, r.Err)
	}
	if s, err := r.Scalar(); err == nil {
		return promql.Vector{{F: s.V}}
	}
	v, err := r.Vector()
	if err != nil {
		t.Fatalf("query %s: %v", query, err)
	}
	return slices.Clone(v) // Close takes it back
}

// find returns the series that match, sorted. The engine itself ignores samples out of its range.
func (m memory) find(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	found := &set{}
	for _, s := range m {
		if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(s.Metric.Get(m.Name)) }) {
			found.all = append(found.all, s)
		}
	}
	slices.SortFunc(found.all, func(a, b *promql.Series) int { return labels.Compare(a.Metric, b.Metric) })
	return found
}

// set iterates over series.
type set struct {
	all  []*promql.Series
	next int
}

func (s *set) Next() bool                        { s.next++; return s.next <= len(s.all) }
func (s *set) At() storage.Series                { return promql.NewStorageSeries(*s.all[s.next-1]) }
func (s *set) Err() error                        { return nil }
func (s *set) Warnings() annotations.Annotations { return nil }
