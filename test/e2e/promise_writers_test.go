//go:build unix

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/operate"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/test/process"
)

// writer makes number n of the email processes that share a cluster's shards; it is not started
// yet.
func (p *pipeline) writer(n int) *service {
	p.t.Helper()
	log := p.log
	if n > 0 {
		log = filepath.Join(p.t.TempDir(), "sent_emails")
		p.logs = append(p.logs, log)
	}
	return p.service("email", fmt.Sprint("EMAIL_WRITER=", n), "SENT_EMAILS="+log)
}

// of sets the number of writers for the next start.
func (s *service) of(writers int) *service {
	s.Env = append(s.Env, fmt.Sprint("EMAIL_WRITERS=", writers))
	return s
}

// journal is the name of a writer's journal.
func (s *service) journal() (name string) {
	s.T.Helper()
	stagetest.Eventually(s.T, s.Name+" has opened its journal", func() bool {
		_, after, ok := strings.Cut(s.Output(), "journal=")
		name, _, _ = strings.Cut(after, " ")
		return ok
	})
	return name
}

// shardsOf waits until so many shards of email belong to a journal.
func (p *pipeline) shardsOf(look *inspect.Pipeline, journal string, want int) {
	p.t.Helper()
	n, last := -1, error(nil)
	defer func() {
		if p.t.Failed() {
			p.t.Logf("%d shards belong to %s; %v", n, journal, last)
		}
	}()
	stagetest.Eventually(p.t, fmt.Sprintf("%d shards belong to %s", want, journal), func() bool {
		n, last = p.shards(look, journal)
		return last == nil && n == want
	})
}

// shards is how many shards of email belong to a journal.
func (p *pipeline) shards(look *inspect.Pipeline, journal string) (n int, err error) {
	o, err := look.Overview(p.t.Context())
	for _, s := range o.Shards {
		if s.Away != "" {
			return 0, errors.New(s.Away)
		}
		if s.Writer("email") == journal {
			n++
		}
	}
	return n, err
}

// size is how long a log is.
func size(t testing.TB, log string) int64 {
	t.Helper()
	fi, err := os.Stat(log)
	stagetest.OK(t, err)
	return fi.Size()
}

// TestPromiseWriters goes from one writer of sent_emails to two and back, under load, and kills
// writers and masters meanwhile. Each line is in one of the two logs.
func TestPromiseWriters(t *testing.T) {
	t.Parallel()
	p, c := newSharded(t, "LEASE=1s", "WAIT_REPLICAS=1")
	services := p.start("web-api", "distance", "db")
	first, second := p.writer(0), p.writer(1)
	first.of(1).Start()
	first.Ready()
	look, l := p.look(), newLedger(p)
	stop := l.load(64, services[0])
	known := p.keyed(l, services[0])
	var handOvers, kills, masters, again int
	var took []time.Duration // from the signal to the writer until both have their shards
	for start, long := time.Now(), chaosFor(t, 1); handOvers == 0 || time.Since(start) < long; {
		p.shardsOf(look, first.journal(), 16)
		second.of(2).Start()
		second.Ready() // though it has no shard yet
		began := time.Now()
		if rand.IntN(2) == 0 || handOvers == 0 {
			first.Stop()
		} else {
			first.Kill() // in its next life it gives up what it does not want
			kills++
		}
		first.of(2).Start()
		p.shardsOf(look, second.journal(), 8)
		p.shardsOf(look, first.journal(), 8)
		took = append(took, time.Since(began))
		handOvers++

		if handOvers == 1 {
			p.repeat(c, services[0], known)
		}
		p.dies(look, second, first)
		kills++
		if handOvers%2 == 1 {
			p.failMaster(c, l)
			masters++
			c.Settled()
		}
		time.Sleep(rand.N(burst)) // any moment
		again += p.leaves(look, second)
		first.Stop()
		first.of(1).Start()
		p.shardsOf(look, first.journal(), 16)
		first.Ready()
		handOvers++
		t.Logf("%4.0f s: hand-overs %d; %s", time.Since(start).Seconds(), handOvers, l.sofar())
	}
	standby := p.service("email", "SENT_EMAILS="+p.log)
	standby.Start()
	stagetest.Eventually(t, "there is a standby", func() bool {
		return standby.Running() && standby.Up(t.Context()) == nil && strings.Contains(standby.page("/readyz"), "standby")
	})
	before := size(t, p.log)
	first.Kill()
	kills++
	stagetest.Eventually(t, "the standby goes on", func() bool { return size(t, p.log) > before })
	p.shardsOf(look, first.journal(), 16)
	t.Log("the standby has all shards")
	stop()
	alive(t, append(services, standby))
	tell(t, "ledger: %s", l.balance())
	slices.Sort(took)
	tell(t, "hand-overs %d, of which a replica was too late for %d at first; from 1 to 2 writers: median %s, worst %s; writers killed %d, masters killed %d",
		handOvers, again, took[len(took)/2].Round(10*time.Millisecond), took[len(took)-1].Round(10*time.Millisecond), kills, masters)
	for _, log := range append(p.logs, p.log) {
		if size(t, log) == 0 {
			t.Errorf("the log %s has no line", log)
		}
	}
}

// leaves stops a writer until it has given up its shards: while a replica is not up to date, it
// keeps some. It returns how often that was.
func (p *pipeline) leaves(look *inspect.Pipeline, s *service) (again int) {
	p.t.Helper()
	stagetest.Eventually(p.t, "the writer gives up its shards", func() bool {
		s.Stop()
		var kept int
		stagetest.Eventually(p.t, "all masters answer", func() bool {
			var err error
			kept, err = p.shards(look, s.journal())
			return err == nil
		})
		if kept == 0 {
			return true
		}
		again++
		p.t.Logf("it keeps %d shards: %s", kept, process.Tail(s.Output(), 2))
		s.Start()
		s.Ready()
		return false
	})
	return again
}

// keyed submits with an idempotency key an event of a shard that another writer is to get, and
// waits for its line.
func (p *pipeline) keyed(l *ledger, edge *service) (v visit) {
	p.t.Helper()
	for n := range 100 {
		v = visit{fmt.Sprintf("again-%d@example.com", n), "1.5", "2.5"}
		id := p.submitKeyed(edge, v)
		l.note(v, accepted, id)
		if stage.ShardOf(id, 16)%2 == 1 {
			break
		}
	}
	p.written(v.Email, 1)
	return v
}

// submitKeyed submits with the address as the idempotency key, again while the answer is 503.
func (p *pipeline) submitKeyed(edge *service, v visit) (id string) {
	p.t.Helper()
	stagetest.Eventually(p.t, "the submission of "+v.Email+" is accepted", func() bool {
		status, answered, err := post(p.t, edge.url, v, v.Email)
		if err != nil || status != http.StatusCreated && status != http.StatusServiceUnavailable {
			p.t.Fatalf("POST /distance of %+v: %d, %v; want 201, or 503 for a while", v, status, err)
		}
		id = answered
		return status == http.StatusCreated
	})
	return id
}

// repeat submits the event again after Redis has forgotten its key. Its shard's writer does not
// know its line, and must not write another.
func (p *pipeline) repeat(c *stagetest.Sharded, edge *service, v visit) {
	p.t.Helper()
	var forgotten atomic.Int64
	err := c.Client().ForEachMaster(p.t.Context(), func(ctx context.Context, c *redis.Client) error {
		for _, key := range c.Keys(ctx, "*}idempotency:"+v.Email).Val() {
			forgotten.Add(c.Del(ctx, key).Val())
		}
		return nil
	})
	if err != nil || forgotten.Load() != 1 {
		p.t.Fatalf("%d keys of %s were there, %v; want 1", forgotten.Load(), v.Email, err)
	}
	p.submitKeyed(edge, v)
	if letter := p.dead(event.UserEmail, 1)[0]; !strings.Contains(letter.Error, "submitted again after its shard changed its writer") {
		p.t.Errorf("the repeat's dead letter says %q", letter.Error)
	}
	p.must("milepostctl", "dead", "drop", event.UserEmail, "--all", "--yes")
}

// dies kills a writer and starts it again, after the other has gone on without it and said whose
// shards wait.
func (p *pipeline) dies(look *inspect.Pipeline, victim, other *service) {
	p.t.Helper()
	victim.Kill()
	journal, before := victim.journal(), size(p.t, p.log)
	stagetest.Eventually(p.t, "the other writer says whose shards wait", func() bool {
		return strings.Contains(other.page("/readyz"), "not running: "+journal+", whose shards 1 3 5 7 9 11 13 15 wait")
	})
	stagetest.Eventually(p.t, "the other writer goes on", func() bool { return size(p.t, p.log) > before })
	stagetest.Eventually(p.t, "status says whose shards wait", func() bool {
		seen, err := look.Observer(0).Observe(p.t.Context())
		if err != nil {
			return false
		}
		for _, x := range operate.Problems(seen, "milepostctl") {
			if x.Urgent && strings.Contains(x.Text, "8 of 16 shards of email belong to "+journal+", which is not running") {
				return true
			}
		}
		return false
	})
	p.shardsOf(look, journal, 8)
	victim.Start()
	victim.Ready()
}
