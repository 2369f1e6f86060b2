//go:build linux

package bench

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// scale is how long and how hard everything is driven.
type scale struct {
	warm, edge     time.Duration // warm-up; of the edge, the bare handler, and the idle pipeline
	light, sustain time.Duration // of the whole pipeline at 100 a second, and at full speed
	connections    int           // of the client, one request at a time each
	outstanding    int           // most submissions without a log line at full speed
	edgeRate       int           // submissions a second for the edge and the bare handler; 0: unlimited
}

var (
	whole = scale{2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 128, 2000, 0}
	// brief shows that it works. It is slow enough for standalone's store.
	brief = scale{200 * time.Millisecond, 300 * time.Millisecond, time.Second, 2 * time.Second, 8, 100, 200}
)

const (
	few     = 32  // connections of a busy browser or a small site
	lightly = 100 // submissions a second that leave the machine mostly idle
)

// BenchmarkPipeline measures one stretch after the other, for each durability of Redis. of-NAME is
// a stretch's rate, divided by that of another. Run it with -benchtime 1x; a -count gives more
// rounds.
func BenchmarkPipeline(b *testing.B) {
	s := whole
	if testing.Short() {
		s = brief
	} else if os.Getenv("MONGO_URL") == "" {
		b.Fatal("MONGO_URL names the store; without it there is only -short, since standalone's is made for trying and testing")
	}
	for _, fsync := range durabilities(b) {
		b.Run("fsync="+fsync, func(b *testing.B) { measure(b, fsync, s) })
	}
}

// measure measures everything once.
func measure(b *testing.B, fsync string, s scale) {
	r := open(b, fsync)
	// The stages make their groups, so that the edge publishes for the same readers as later.
	start(r.stages...)
	stop(r.stages...)
	rates := map[string]float64{}
	edge := drive{posting: asJSON, connections: s.connections, warm: s.warm, measure: s.edge, rate: s.edgeRate}
	full := drive{posting: asForm, connections: s.connections, warm: s.warm, measure: s.sustain, outstanding: s.outstanding}
	with := func(d drive, change func(*drive)) drive { change(&d); return d }
	form := func(d *drive) { d.posting = asForm }
	json := func(d *drive) { d.posting = asJSON }
	fewer := func(d *drive) { d.connections = min(few, s.connections) }
	light := with(full, func(d *drive) { d.rate, d.measure = lightly, s.light })

	r.stretch(b, rates, "bare", "", r.bare, edge)
	stagetest.OK(b, r.rdb.Del(b.Context(), "bare").Err())
	r.stretch(b, rates, "edge-json", "bare", r.client, edge)
	r.stretch(b, rates, "edge-form", "edge-json", r.client, with(edge, form))
	run(b, "drain", r.drain)
	r.stretch(b, rates, "form-100", "", r.client, light)
	r.stretch(b, rates, "json-100", "", r.client, with(light, json))
	r.stretch(b, rates, "json", "edge-json", r.client, with(full, json))
	r.stretch(b, rates, "form", "json", r.client, full)
	r.stretch(b, rates, "form-32", "", r.client, with(full, fewer))
	run(b, "idle", func(b *testing.B) { r.idle(b, s.edge) })
	stop(r.stages...)
	run(b, "ledger", func(b *testing.B) {
		ledgerOf(b, r.client)
		if c := r.client; c.accepted != c.written || c.doubled > 0 {
			b.Fatal("a submission was lost or doubled")
		}
	})
	// It looks documents up one at a time, so it is not measured on standalone's store.
	if _, err := os.Stat(filepath.Join(*bin, peer)); err != nil || os.Getenv("MONGO_URL") == "" {
		return
	}
	p := openPeer(b, fsync)
	p.stretch(b, rates, peer+"-form-100", "", p.client, light)
	p.stretch(b, rates, peer+"-form", "form", p.client, full)
	p.stretch(b, rates, peer+"-form-32", "form-32", p.client, with(full, fewer))
	run(b, peer+"-ledger", func(b *testing.B) { ledgerOf(b, p.client) }) // lines may be lost or doubled
}

func ledgerOf(b *testing.B, c *client) {
	for what, n := range map[string]int{"accepted": c.accepted, "lines": c.written, "doubled": c.doubled} {
		b.ReportMetric(float64(n), what)
	}
}

// run is b.Run once, after whose failure nothing more is measured.
func run(b *testing.B, name string, f func(*testing.B)) {
	if !b.Run(name, func(b *testing.B) { b.ReportMetric(0, "ns/op"); f(b) }) {
		b.FailNow()
	}
}

// stretch drives a client and reports its rate, its times and what they cost.
func (r *rig) stretch(b *testing.B, rates map[string]float64, name, of string, c *client, d drive) {
	run(b, name, func(b *testing.B) {
		var readings []reading
		pids := r.pids()
		d.edge = func() { readings = append(readings, read(b, pids, r.rdb)) }
		got, err := c.run(b.Context(), d)
		stagetest.OK(b, err)
		if len(c.status) > 1 || c.status[http.StatusCreated] == 0 {
			b.Fatalf("answers other than 201, by status: %v; 503 is a full Redis or backlog", c.status)
		}
		events := got.accepted
		if d.outstanding > 0 {
			events = got.written
			times(b, "line", got.lines)
		}
		times(b, "post", got.posts)
		rates[name] = rate(b, events, got.seconds)
		if of != "" {
			b.ReportMetric(rates[name]/rates[of], "of-"+of)
		}
		cost(b, readings[0], readings[1], events)
	})
}

func rate(b *testing.B, events int, seconds float64) float64 {
	b.Helper()
	if events == 0 {
		b.Fatal("no event was completed while it was measured")
	}
	b.ReportMetric(float64(events)/seconds, "events/s")
	return float64(events) / seconds
}

func times(b *testing.B, what string, sorted []time.Duration) {
	for name, share := range map[string]float64{"p50": 0.5, "p99": 0.99} {
		if n := len(sorted); n > 0 {
			b.ReportMetric(sorted[int(share*float64(n))].Seconds()*1000, what+"-"+name+"-ms")
		}
	}
}

// drain starts the stages and measures how they work off what the edge left, their start included.
func (r *rig) drain(b *testing.B) {
	begun := r.client.written
	from := read(b, r.pids(), r.rdb)
	start(r.stages...)
	stagetest.OK(b, r.client.settled(b.Context()))
	to := read(b, r.pids(), r.rdb)
	rate(b, r.client.written-begun, to.at.Sub(from.at).Seconds())
	cost(b, from, to, r.client.written-begun)
}

// idle measures the round trips to Redis while nobody submits.
func (r *rig) idle(b *testing.B, d time.Duration) {
	from := read(b, nil, r.rdb)
	time.Sleep(d)
	to := read(b, nil, r.rdb)
	b.ReportMetric((to.reads-from.reads-1)/to.at.Sub(from.at).Seconds(), "redis-trips/s") // one was ours
}
