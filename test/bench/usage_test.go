//go:build linux

package bench

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/procfs"
	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// services are those that an event passes.
var services = []string{"web-api", "distance", "db", "email"}

// reading is what was used up to a moment.
type reading struct {
	at           time.Time
	cpu          map[string]float64 // seconds, by process
	resident     map[string]float64 // MB, by process
	busy, stolen float64            // CPU seconds of the machine; those that its host gave to others
	calls        map[string]float64 // Redis commands, those inside scripts too
	used         float64            // bytes in Redis
	reads        float64            // requests, or pipelines of requests, that Redis read
}

// read takes a reading of the processes and of Redis.
func read(b testing.TB, pids map[string]int, rdb *redis.Client) reading {
	b.Helper()
	r := reading{at: time.Now(), cpu: map[string]float64{}, resident: map[string]float64{}, calls: map[string]float64{}}
	info, err := rdb.InfoMap(b.Context(), "commandstats", "stats", "memory").Result()
	if err != nil {
		b.Fatalf("INFO: %v", err)
	}
	for name, value := range info["Commandstats"] {
		calls, _, _ := strings.Cut(strings.TrimPrefix(value, "calls="), ",")
		r.calls[strings.TrimPrefix(name, "cmdstat_")], _ = strconv.ParseFloat(calls, 64)
	}
	r.used, _ = strconv.ParseFloat(info["Memory"]["used_memory_dataset"], 64)
	r.reads, _ = strconv.ParseFloat(info["Stats"]["total_reads_processed"], 64)
	for name, pid := range pids {
		p, err := procfs.NewProc(pid)
		if err != nil {
			b.Fatalf("%s: %v", name, err)
		}
		stat, err := p.Stat()
		if err != nil {
			b.Fatalf("%s: %v", name, err)
		}
		r.cpu[name], r.resident[name] = stat.CPUTime(), float64(stat.ResidentMemory())/(1<<20)
	}
	fs, err := procfs.NewDefaultFS()
	stagetest.OK(b, err)
	all, err := fs.Stat()
	stagetest.OK(b, err)
	c := all.CPUTotal
	r.busy, r.stolen = c.User+c.Nice+c.System+c.IRQ+c.SoftIRQ, c.Steal
	return r
}

// cost reports what a stretch of so many events took. cpu-s/1000 is the CPU time of the four
// services for 1,000 events; elsewhere is what other programs used, stolen what the host of a
// virtual machine gave to others.
func cost(b *testing.B, from, to reading, events int) {
	n := float64(events)
	perThousand := func(name string, seconds float64) { b.ReportMetric(seconds/n*1000, name+"cpu-s/1000") }
	known, four := 0.0, 0.0
	for name, s := range to.cpu {
		s -= from.cpu[name]
		known += s
		if slices.Contains(services, name) {
			four += s
		}
		perThousand(name+"-", s)
		b.ReportMetric(to.resident[name], name+"-MB")
	}
	perThousand("", four)
	perThousand("elsewhere-", max(0, to.busy-from.busy-known))
	perThousand("stolen-", to.stolen-from.stolen)
	commands, names := 0.0, ""
	for _, name := range slices.Sorted(maps.Keys(to.calls)) {
		if each := (to.calls[name] - from.calls[name]) / n; each > 0.0005 {
			commands += each
			names += fmt.Sprintf(" %s %.3g,", name, each)
		}
	}
	b.Logf("Redis commands an event:%s", names)
	b.ReportMetric(commands, "redis-commands/event")
	b.ReportMetric((to.reads-from.reads)/n, "redis-trips/event")
	b.ReportMetric((to.used-from.used)/n, "redis-B-left/event")
}
