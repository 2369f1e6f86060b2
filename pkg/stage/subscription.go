package stage

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// lastHeard is when something last came over a subscription.
type lastHeard struct{ ns atomic.Int64 }

func (l *lastHeard) now()               { l.ns.Store(time.Now().UnixNano()) }
func (l *lastHeard) ago() time.Duration { return time.Since(time.Unix(0, l.ns.Load())) }

// guard closes sub when ctx ends, or when nothing came for a lease and a call's time: then it is
// broken without saying so. It sends a PING once in pings; with 0 it sends none. After this process
// itself was frozen, what came meanwhile has to be read first.
func (b *Broker) guard(ctx context.Context, sub *redis.PubSub, heard *lastHeard, pings time.Duration) {
	defer sub.Close()
	t := time.NewTicker(cmp.Or(pings, b.opt.Lease))
	defer t.Stop()
	for last := time.Now(); ; last = time.Now() {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if time.Since(last) > b.opt.Lease {
				heard.now()
			}
			if heard.ago() > b.opt.Lease+callTimeout {
				return
			}
			if pings > 0 {
				_ = sub.Ping(ctx)
			}
		}
	}
}
