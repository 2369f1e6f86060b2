package journal

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkWrite writes batches; two syncs of the disk each.
func BenchmarkWrite(b *testing.B) {
	for _, batch := range []int{1, 128} {
		b.Run(fmt.Sprint("batch=", batch), func(b *testing.B) {
			j, err := Open(b.Context(), Options{Path: filepath.Join(b.TempDir(), "log"), Log: quiet})
			if err != nil {
				b.Fatal(err)
			}
			defer j.Close()
			n := 0
			for b.Loop() {
				if _, err := j.Write(noon, lines(n, n+batch)); err != nil {
					b.Fatal(err)
				}
				n += batch
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkFind looks up events in a journal that remembers a million.
func BenchmarkFind(b *testing.B) {
	j, err := Open(b.Context(), Options{Path: filepath.Join(b.TempDir(), "log"), Log: quiet})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	const segments, size = 64, defaultSegment
	start := time.Now()
	for s := range segments {
		events := make(map[key]Written, size)
		for n := range size {
			events[keyOf(id(s*size+n))] = Written{SentAt: noon}
		}
		if err := j.ids.add(s+1, events, noon, time.Time{}); err != nil {
			b.Fatal(err)
		}
	}
	took := time.Since(start) / segments
	start = time.Now()
	if err := j.ids.db.View(j.ids.check); err != nil {
		b.Fatal(err)
	}
	b.Logf("check took %v", time.Since(start))
	b.Logf("a segment took %v; %d bytes an event", took, j.ids.size()/segments/size)
	for name, tc := range map[string]struct {
		id    func(n int) string
		known bool
	}{
		"new":                {func(n int) string { return id(segments*size + n) }, false},
		"new with an old ID": {func(n int) string { return "01920000" + id(n)[8:] }, false},
		"known":              {func(n int) string { return id(n % (segments * size)) }, true},
	} {
		b.Run(name, func(b *testing.B) {
			for n := 0; b.Loop(); n++ {
				if _, ok, err := j.find(keyOf(tc.id(n))); err != nil || ok != tc.known {
					b.Fatal(ok, err)
				}
			}
		})
	}
}
