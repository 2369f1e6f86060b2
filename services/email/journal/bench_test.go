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

// BenchmarkFind looks up new and old events in a journal that remembers a million.
func BenchmarkFind(b *testing.B) {
	dir := b.TempDir()
	j := &Journal{active: &segment{events: map[key]Written{}}}
	const segments, size = 64, defaultSegment
	for s := range segments {
		events := make(map[key]Written, size)
		for n := range size {
			events[keyOf(id(s*size+n))] = Written{SentAt: noon}
		}
		sealed, err := seal(filepath.Join(dir, fmt.Sprint(s)), "x", events, time.Now())
		if err != nil {
			b.Fatal(err)
		}
		j.sealed = sealed.after(j.sealed)
	}
	for name, id := range map[string]func(n int) string{
		"new":   func(n int) string { return id(segments*size + n) },
		"known": func(n int) string { return id(n % (segments * size)) },
	} {
		b.Run(name, func(b *testing.B) {
			for n := 0; b.Loop(); n++ {
				if _, ok, err := j.find(keyOf(id(n))); err != nil || ok != (name == "known") {
					b.Fatal(ok, err)
				}
			}
		})
	}
}
