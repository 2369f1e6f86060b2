package observe

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// memory is a Prometheus' storage: the samples of each series, oldest first, by the series' labels. Prometheus' own
// in-memory one brings its whole database and the clients of every cloud.
type memory map[string]*series

type series struct {
	labels  labels.Labels
	samples []chunks.Sample
}

// add appends a sample.
func (m memory) add(l labels.Labels, at time.Time, v float64) {
	s := m[l.String()]
	if s == nil {
		s = &series{labels: l}
		m[l.String()] = s
	}
	s.samples = append(s.samples, sample{timestamp.FromTime(at), v})
}

// every is how far the samples of a written series are apart, and how often rules are evaluated.
const every = 15 * time.Second

// write adds series in the notation of promtool's tests, such as `up{job="milepost"} 1x8 0x20`: 9 ones, then 21 zeros.
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

// ask evaluates a query that has a vector, or a scalar, as its value.
func (m memory) ask(t testing.TB, query string, at time.Time) promql.Vector {
	t.Helper()
	q, err := engine.NewInstantQuery(t.Context(), m, nil, query, at)
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

// Querier makes memory a storage.Queryable. The engine leaves out what is outside of the times it asks for.
func (m memory) Querier(int64, int64) (storage.Querier, error) { return querier{m}, nil }

type querier struct{ m memory }

func (q querier) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	var set set
	for _, s := range q.m {
		if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(s.labels.Get(m.Name)) }) {
			set.all = append(set.all, s)
		}
	}
	slices.SortFunc(set.all, func(a, b *series) int { return labels.Compare(a.labels, b.labels) })
	return &set
}

func (querier) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (querier) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (querier) Close() error { return nil }

// set walks through the series of an answer.
type set struct {
	all  []*series
	next int
}

func (s *set) Next() bool { s.next++; return s.next <= len(s.all) }

func (s *set) At() storage.Series {
	at := s.all[s.next-1]
	return storage.NewListSeries(at.labels, at.samples)
}

func (s *set) Err() error                        { return nil }
func (s *set) Warnings() annotations.Annotations { return nil }

type sample struct {
	t int64
	v float64
}

func (s sample) T() int64                      { return s.t }
func (s sample) F() float64                    { return s.v }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { return s }
