//go:build unix

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// TestPromiseOutageNothingThere starts the services before Redis and the store. They wait, say so
// in /readyz, and work once these are there. Then Redis and the store go away again, one after the
// other.
func TestPromiseOutageNothingThere(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	p.redis.Kill()
	p.store.Kill()
	services := make([]*service, len(all))
	for i, name := range all {
		services[i] = p.service(name)
		services[i].Start()
	}
	web, db, email := services[0], services[2], services[3]
	for _, s := range services {
		s.waits("redis")
	}
	refused := func() {
		t.Helper()
		status, _, err := post(t, web.url, golden, "")
		if err != nil || status != http.StatusServiceUnavailable {
			t.Errorf("POST /distance without Redis: %d, %v; want 503", status, err)
		}
	}
	refused()

	p.redis.Start()
	web.Ready()
	services[1].Ready()
	for _, s := range []*service{db, email} {
		s.waits("mongo")
	}
	early := visits("early", 3) // accepted while the store is still away
	p.submit(early...)
	p.store.Start()
	alive(t, services)
	p.delivered(addresses(early...)...)

	p.redis.Kill()
	for _, s := range services {
		s.waits("redis")
	}
	refused()
	p.redis.Start()
	alive(t, services)
	p.store.Stop()
	late := visits("late", 3)
	p.submit(late...)
	p.store.Start()
	p.delivered(append(addresses(early...), addresses(late...)...)...)
	alive(t, services)
	for _, c := range hops {
		p.dead(c, 0)
	}
}

// TestPromiseOutageStoreAway keeps the store away until the pressure has reached the edge:
// submissions are refused with Retry-After and no stream grows. When the store is back, everything
// accepted arrives and the edge accepts again.
func TestPromiseOutageStoreAway(t *testing.T) {
	t.Parallel()
	const backlog = 50
	p := newPipeline(t, "LEASE=1s", fmt.Sprintf("MAX_BACKLOG=%d", backlog))
	services := p.start(all...)
	p.store.Kill()
	l := newLedger(p)
	stop := l.load(100, services[0])
	l.refusing(200)

	// A channel may hold its backlog, what its readers took before they saw the pressure, and
	// what trimming has left.
	const most = backlog + 2*256 + 256
	for range 20 {
		for _, c := range hops {
			if n := p.rdb.XLen(t.Context(), c).Val(); n > most {
				t.Errorf("%s has %d entries with MAX_BACKLOG=%d, want at most %d", c, n, backlog, most)
			}
		}
		time.Sleep(50 * time.Millisecond) // the load goes on meanwhile
	}
	stop()
	p.store.Start()
	tell(t, "ledger: %s", l.balance())
	p.submit(golden)
	p.written(golden.Email, 1)
	alive(t, services)
}

// TestPromiseOutageFullRedis fills Redis to its maxmemory while the store is away. It restarts
// Redis and a stage while Redis is full. Then the store comes back, and at last there is room.
func TestPromiseOutageFullRedis(t *testing.T) {
	t.Parallel()
	p := newPipelineOn(t, []string{"--maxmemory", "24mb", "--maxmemory-policy", "noeviction"}, "LEASE=1s")
	services := p.start(all...)
	web, distance := services[0], services[1]
	l := newLedger(p)
	stop := l.load(100, web)
	stagetest.Eventually(t, "some submissions went all the way", func() bool { return p.sent().total > 20 })
	p.store.Kill()
	before := l.sofar().accepted
	stagetest.Eventually(t, "more were accepted while the store was away", func() bool { return l.sofar().accepted > before+200 })

	fill(t, p)
	l.refusing(50)
	t.Logf("full; accepted %d", l.sofar().accepted)
	p.redis.Kill()
	p.redis.Start()
	fill(t, p)
	distance.Ready()
	l.refusing(50)
	distance.Kill() // its successor joins a full Redis
	distance.Start()
	distance.Ready()
	distance.Stop() // and it hands back what it has
	distance.Start()
	distance.Ready()
	l.refusing(50)
	stop()

	// Everything accepted gets through while Redis is full.
	p.store.Start()
	tell(t, "ledger: %s", l.balance())

	stagetest.OK(t, p.rdb.Del(t.Context(), "ballast").Err())
	p.submit(golden)
	p.written(golden.Email, 1)
	alive(t, services)
}

// TestPromiseOutageFolderAway removes the folder of the log and its journal under email, and puts
// it back from a copy. Email pauses and goes on.
func TestPromiseOutageFolderAway(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	services := p.start(all...)
	early, late := visits("early", 3), visits("late", 3)
	p.submit(early...)
	p.delivered(addresses(early...)...)
	dir, kept := filepath.Dir(p.log), filepath.Join(t.TempDir(), "kept")
	for _, err := range []error{os.CopyFS(kept, os.DirFS(dir)), os.RemoveAll(dir)} {
		stagetest.OK(t, err)
	}
	p.submit(late...)
	services[3].waits("paused")
	stagetest.OK(t, os.CopyFS(dir, os.DirFS(kept)))
	p.delivered(append(addresses(early...), addresses(late...)...)...)
	alive(t, services)
}

// TestPromiseOutageStdoutGone: email goes on writing its log when the reader of its standard output
// ends.
func TestPromiseOutageStdoutGone(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	p.start("web-api", "distance", "db")
	email := p.service("email")
	email.Path, email.Args, email.Group = "/bin/sh", []string{"-c", `"$0" | { head -n 1; echo "the reader has ended"; }`, email.Path}, true
	email.Start()
	email.Ready()
	first, more := visits("first", 1), visits("more", 5)
	p.submit(first...)
	email.Says("the reader has ended")
	p.submit(more...)
	p.delivered(append(addresses(first...), addresses(more...)...)...)
	alive(t, []*service{email})
}

// fill writes into Redis until it refuses one more byte.
func fill(t *testing.T, p *pipeline) {
	t.Helper()
	piece := strings.Repeat("x", 64<<10)
	for {
		err := p.rdb.RPush(t.Context(), "ballast", piece).Err()
		if err == nil {
			continue
		}
		if !strings.HasPrefix(err.Error(), "OOM ") {
			t.Fatal(err)
		}
		if len(piece) == 1 {
			return
		}
		piece = piece[:len(piece)/2]
	}
}

// refusing waits until n submissions in a row were answered 503: then no hop has room.
func (l *ledger) refusing(n int) {
	l.p.t.Helper()
	taken, refused := -1, 0
	stagetest.Eventually(l.p.t, fmt.Sprintf("%d submissions in a row are answered 503", n), func() bool {
		now := l.sofar()
		if now.accepted != taken {
			taken, refused = now.accepted, now.refused
		}
		return now.refused >= refused+n
	})
}
