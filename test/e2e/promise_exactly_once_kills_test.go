//go:build unix

package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/milepost/milepost/test/process"
)

// chaosFor is how long the long form of a test goes on that gets so many fifths of the time, 0 for
// the short form: `make chaos` sets CHAOS_SECONDS, the time of all.
func chaosFor(t *testing.T, fifths int) time.Duration {
	t.Helper()
	v := os.Getenv("CHAOS_SECONDS")
	if v == "" {
		return 0
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("CHAOS_SECONDS: %q is not a number of seconds", v)
	}
	return time.Duration(n*fifths) * time.Second / 5
}

// TestPromiseExactlyOnceKills kills processes with SIGKILL under load, the shipped ones at random
// moments and ones built for it at exact points, and then balances the ledger.
func TestPromiseExactlyOnceKills(t *testing.T) {
	c := newChaos(t)
	c.exact = builds.programs(t, "killpoints")
	long := chaosFor(t, 3)
	start := time.Now()
	stop := c.load(32, c.services["web-api"])
	points, between := rand.Perm(len(exactPoints)), rand.Perm(len(wirePoints))
	if long == 0 {
		for range 2 {
			for name := range c.victims {
				c.killAtRandom(name)
			}
		}
		for _, i := range points {
			c.killExactly(exactPoints[i])
		}
		for _, x := range wirePoints {
			c.killOnWire(x)
		}
	}
	for last := start; time.Since(start) < long; {
		for range 4 {
			c.killAtRandom(c.anyone())
		}
		c.killExactly(exactPoints[points[0]])
		c.killOnWire(wirePoints[between[0]])
		points, between = append(points[1:], points[0]), append(between[1:], between[0])
		if now := time.Now(); now.Sub(last) > 5*time.Second {
			last = now
			c.progress(now.Sub(start))
		}
	}
	stop()
	alive(t, slices.Collect(maps.Values(c.services)))
	sum := c.balance()
	tell(t, "ledger: %s", sum)
	tell(t, "kills: %d, while entries were pending: %d; rotations of the log: %d", c.kills, c.inTime, c.rotations)
	for _, k := range slices.Sorted(maps.Keys(c.killed)) {
		tell(t, "  %3d  %s", c.killed[k], k)
	}
	if sum.accepted == 0 || c.inTime == 0 || c.rotations == 0 {
		t.Error("nothing was tried")
	}
	if long >= 3*time.Minute && (c.kills < 100 || c.inTime < 80) {
		t.Errorf("%d kills, %d of them while entries were pending; want at least 100 and 80", c.kills, c.inTime)
	}
}

// told is what the long form prints once more when all is over.
var told struct {
	mu    sync.Mutex
	lines []string
}

// tell logs a line of a test's outcome.
func tell(t testing.TB, format string, args ...any) {
	t.Helper()
	t.Logf(format, args...)
	told.mu.Lock()
	defer told.mu.Unlock()
	outcome := "balanced"
	if t.Failed() {
		outcome = "FAILED"
	}
	told.lines = append(told.lines, fmt.Sprintf("%-32s %-8s  ", t.Name(), outcome)+fmt.Sprintf(format, args...))
}

// tellAll ends the output of the long form.
func tellAll() {
	if os.Getenv("CHAOS_SECONDS") != "" {
		fmt.Printf("\n%s\n\n", strings.Join(told.lines, "\n"))
	}
}

// victim is a process that can be killed and started again.
type victim interface {
	Kill()
	Start()
}

// chaos is a pipeline at work whose parts are killed.
type chaos struct {
	*ledger
	services  map[string]*service
	victims   map[string]victim // the services, redis and store
	exact     string            // folder of the programs that end themselves where MILEPOST_KILL says
	wires     map[string]*wire  // by the program that asks
	killed    map[string]int    // by program and moment
	kills     int
	inTime    int // kills while entries were pending
	rotations int // of the log
}

func newChaos(t *testing.T) *chaos {
	p := newPipeline(t, "LEASE=1s")
	return newChaosOn(p, map[string]*wire{
		"web-api": newWire(t, p.redis.Addr), "distance": newWire(t, p.redis.Addr),
		"db": newWire(t, strings.Trim(strings.TrimPrefix(p.mongo, "mongodb:"), "/")),
	})
}

// newChaosOn starts the services of a pipeline, with wires between some of them and the stores.
func newChaosOn(p *pipeline, wires map[string]*wire) *chaos {
	c := &chaos{
		ledger: newLedger(p), services: map[string]*service{}, killed: map[string]int{}, wires: wires,
		victims: map[string]victim{"redis": p.redis, "store": p.store},
	}
	for _, name := range all {
		var env []string
		if w := c.wires[name]; name == "db" && w != nil {
			env = []string{"MONGO_URL=mongodb://" + w.addr}
		} else if w != nil {
			env = []string{"REDIS_URL=redis://" + w.addr}
		}
		c.services[name] = p.service(name, env...)
		c.services[name].Start()
		c.victims[name] = c.services[name]
	}
	for _, s := range c.services {
		s.Ready()
	}
	return c
}

// anyone is the name of one of the victims.
func (c *chaos) anyone() string {
	names := slices.Sorted(maps.Keys(c.victims))
	return names[rand.IntN(len(names))]
}

func (c *chaos) progress(after time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.p.t.Logf("%4.0f s: %d kills, %d while entries were pending; accepted %d, lines %d", after.Seconds(), c.kills, c.inTime, c.accepted, c.p.sent().total)
}

// killAtRandom kills a shipped program at some moment, if it can at one when entries are pending,
// and starts it again. Now and then another program dies beside it.
func (c *chaos) killAtRandom(name string) {
	group := ""
	if slices.Contains(all[1:], name) {
		group = name
	}
	time.Sleep(rand.N(burst)) // any moment
	pending := 0
	for until := time.Now().Add(2 * time.Second); pending == 0 && time.Now().Before(until); {
		pending = c.p.pending(group)
	}
	dead := []string{name}
	if second := c.anyone(); second != name && rand.IntN(5) == 0 {
		dead = append(dead, second)
	}
	for i, d := range dead {
		how := c.kill(d)
		if i == 0 && group != "" {
			pending = c.p.pending(group) // a dead consumer's entries stay pending
		}
		c.died(d+" "+how, pending)
	}
	if rand.IntN(4) == 0 {
		c.rotate()
	}
	away := rand.N(500 * time.Millisecond)
	if rand.IntN(4) == 0 {
		away += time.Second // longer than a lease
	}
	time.Sleep(away) // under load
	for _, d := range dead {
		c.victims[d].Start()
	}
}

// rotate renames the log, as an operator's tool does, while the email service writes it or is dead.
func (c *chaos) rotate() {
	c.rotations++
	if err := os.Rename(c.p.log, fmt.Sprint(c.p.log, ".", c.rotations)); err != nil && !os.IsNotExist(err) {
		c.p.t.Errorf("rotate the log: %v", err)
	}
}

// kill kills one of the victims, a service now and then while it drains, and tells how.
func (c *chaos) kill(name string) (how string) {
	how = "at random"
	if s, ok := c.services[name]; ok && !s.Running() {
		c.p.t.Fatalf("%s ended by itself with status %d", name, s.Wait())
	} else if ok && rand.IntN(4) == 0 {
		how = "while draining"
		s.Signal(syscall.SIGTERM)
		time.Sleep(rand.N(10 * time.Millisecond)) // any moment of the drain
	}
	c.victims[name].Kill()
	return how
}

// died counts a kill.
func (c *chaos) died(what string, pending int) {
	c.killed[what]++
	c.kills++
	if pending > 0 {
		c.inTime++
	}
}

// point is a place in the code of a program where it ends. With several, each next life of the
// program ends at the next one.
type point struct{ service, at string }

var exactPoints = []point{
	{"distance", "stage.before-handler"}, {"distance", "stage.after-handler"},
	{"distance", "stage.settle-sent"}, {"distance", "stage.after-settle"},
	{"db", "stage.before-handler"}, {"db", "stage.after-handler"},
	{"db", "stage.settle-sent"}, {"db", "stage.after-settle"},
	{"email", "stage.before-handler"}, {"email", "stage.after-handler"},
	{"email", "stage.settle-sent"}, {"email", "stage.after-settle"},
	{"email", "journal.before-record"}, {"email", "journal.mid-record"}, {"email", "journal.after-record"},
	{"email", "journal.mid-line"}, {"email", "journal.after-line"}, {"email", "journal.after-mark"},
	{"email", "journal.mid-line journal.mid-recovery"},
}

// wirePoint is a moment between two programs: a request is sent and has not arrived, or is done and
// its answer has not arrived.
type wirePoint struct {
	victim, asking string
	text           string // in the request
	after          bool
}

var wirePoints = []wirePoint{
	{"web-api", "web-api", "idempotency:", false}, {"web-api", "web-api", "idempotency:", true}, // publishing
	{"redis", "web-api", "idempotency:", false}, {"redis", "web-api", "idempotency:", true},
	{"redis", "distance", "raw_input:due", false}, {"redis", "distance", "raw_input:due", true}, // settling
	{"store", "db", "insert\x00", false}, {"store", "db", "insert\x00", true},
}

// killOnWire kills one of two programs in the middle of a request between them, and starts it
// again.
func (c *chaos) killOnWire(x wirePoint) {
	t := c.p.t
	trap := c.wires[x.asking].lay(x.text, x.after)
	select {
	case <-trap.sprung:
	case <-time.After(process.Patience):
		t.Fatalf("%s sent no request with %q within %s", x.asking, x.text, process.Patience)
	}
	pending := c.p.pending("")
	c.victims[x.victim].Kill()
	close(trap.goOn)
	c.died(fmt.Sprintf("%s when %s %s", x.victim, x.asking, map[bool]string{false: "asks", true: "is answered"}[x.after]), pending)
	time.Sleep(rand.N(300 * time.Millisecond)) // away, under load
	c.victims[x.victim].Start()
}

// killExactly lets a service end itself at a point, the first to third time it comes there, and
// starts the shipped one again.
func (c *chaos) killExactly(x point) {
	t := c.p.t
	s := c.services[x.service]
	s.Kill()
	path, env := s.Path, s.Env
	s.Path = filepath.Join(c.exact, x.service)
	for i, at := range strings.Fields(x.at) {
		nth := 1
		if i == 0 {
			nth += rand.IntN(3)
		}
		s.Env = append(slices.Clip(env), fmt.Sprintf("MILEPOST_KILL=%s:%d", at, nth))
		s.Start()
		if code := s.Wait(); code != -1 {
			t.Fatalf("%s, which was to die at %s, ended with status %d", x.service, at, code)
		}
		c.died(x.service+" at "+at, c.p.pending(x.service))
		if rand.IntN(3) == 0 {
			c.rotate()
		}
	}
	s.Path, s.Env = path, env
	s.Start()
}
