package stage

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// lastSeen is when something last came over a subscription.
type lastSeen struct{ ns atomic.Int64 }

func (l *lastSeen) now()               { l.ns.Store(time.Now().UnixNano()) }
func (l *lastSeen) ago() time.Duration { return time.Since(time.Unix(0, l.ns.Load())) }

// pinger keeps a silent subscription honest until stop: it asks twice a lease, and closes one that has not answered for a
// lease and a call's time. A process that was frozen meanwhile has been silent itself: what came has to be read first.
func (b *Broker) pinger(ctx context.Context, sub *redis.PubSub, seen *lastSeen) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		t := time.NewTicker(b.opt.Lease / 2)
		defer t.Stop()
		for last := time.Now(); ; last = time.Now() {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				if time.Since(last) > b.opt.Lease {
					seen.now()
				}
				if seen.ago() > b.opt.Lease+callTimeout {
					_ = sub.Close()
					return
				}
				_ = sub.Ping(ctx)
			}
		}
	}()
	return cancel
}
