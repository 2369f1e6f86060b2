package email

import (
	"os"
	"testing"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// BenchmarkDrain works off a backlog of b.N events, from a real redis-server to the log, two syncs
// a batch. The store is in memory.
func BenchmarkDrain(b *testing.B) {
	g := newRig(b, stagetest.Real(b).Options())
	g.publish(0, b.N)
	b.ResetTimer()
	_, stop := g.start(func(d *Deps) { d.Tuning = config.Tuning{} })
	stagetest.Eventually(b, "everything is settled", func() bool {
		groups, err := g.rdb.XInfoGroups(b.Context(), event.UserEmail).Result()
		return err == nil && len(groups) > 0 && groups[0].EntriesRead == int64(b.N) && groups[0].Pending == 0
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.StopTimer()
	stop()
	if fi, err := os.Stat(g.path); err != nil || fi.Size() < int64(b.N)*90 {
		b.Errorf("log %v, %v; want %d lines", fi, err, b.N)
	}
}
