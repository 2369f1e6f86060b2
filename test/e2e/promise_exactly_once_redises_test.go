//go:build unix

package e2e

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// installation makes a pipeline in a database of a Redis, with a prefix.
func installation(t *testing.T, server *stagetest.Server, database int, prefix string, env ...string) *pipeline {
	t.Helper()
	at := server.Options()
	at.DB = database
	url := "redis://" + server.Addr
	if at.TLSConfig != nil {
		url = "rediss://" + server.Addr
	}
	if database != 0 {
		url += "/1"
	}
	p := newPipelineAt(t, url, at, append(env, "LEASE=1s", "KEY_PREFIX="+prefix)...)
	p.redis, p.names = server, prefix
	return p
}

// TestPromiseExactlyOnceRedises kills everything under load, on each kind of Redis that people
// have, and then balances the ledgers.
func TestPromiseExactlyOnceRedises(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) []*pipeline{
		"prefix": func(t *testing.T) []*pipeline {
			return []*pipeline{installation(t, stagetest.Real(t, stagetest.Durable...), 1, "shop:")}
		},
		"two installations": func(t *testing.T) []*pipeline {
			server := stagetest.Real(t, stagetest.Durable...)
			return []*pipeline{installation(t, server, 0, "a:"), installation(t, server, 1, "b:")}
		},
		"smallest rights": func(t *testing.T) []*pipeline {
			p := installation(t, stagetest.Real(t, append(stagetest.Durable, "--aclfile", aclFile(t))...), 0, "")
			p.named = true
			return []*pipeline{p}
		},
		"TLS": func(t *testing.T) []*pipeline {
			c := stagetest.NewCertificates(t)
			return []*pipeline{installation(t, stagetest.Secure(t, c, stagetest.Durable...), 0, "",
				"REDIS_TLS_CA="+c.CA, "REDIS_TLS_CERT="+c.Cert, "REDIS_TLS_KEY="+c.Key)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var all []*chaos
			var stops []func()
			for _, p := range start(t) {
				c := newChaosOn(p, nil)
				all = append(all, c)
				stops = append(stops, c.load(16, c.services["web-api"]))
			}
			begin, long := time.Now(), chaosFor(t, 1)/2
			for round := 0; round == 0 || time.Since(begin) < long; round++ {
				for _, c := range all {
					for _, name := range slices.Sorted(maps.Keys(c.victims)) {
						c.killAtRandom(name)
					}
				}
			}
			for _, c := range all {
				alive(t, slices.Collect(maps.Values(c.services)))
				c.p.adopted("distance", "db")
				stops = append(stops, c.publish(20)) // nobody is killed now
			}
			for _, c := range all {
				stagetest.Eventually(t, "bare PUBLISHes are heard", func() bool { return c.sofar().bare > 20 })
			}
			for _, stop := range stops {
				stop()
			}
			for _, c := range all {
				sum := c.balance()
				tell(t, "ledger: %s; kills: %d", sum, c.kills)
				if sum.accepted == 0 || sum.bare == 0 || c.inTime == 0 {
					t.Error("nothing was tried")
				}
			}
		})
	}
}
