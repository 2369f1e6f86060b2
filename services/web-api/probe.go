package webapi

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/milepost/milepost/pkg/stage"
)

// probe pings Redis regularly, so that readiness need not.
type probe struct {
	broker interface{ Ping(context.Context) error }
	last   atomic.Pointer[error]
}

func newProbe(b *stage.Broker) *probe {
	p := &probe{broker: b}
	connecting := errors.New("connecting to redis")
	p.last.Store(&connecting)
	return p
}

func (p *probe) ready() error { return *p.last.Load() }

// run pings Redis until ctx ends: every two seconds, and every 250 ms while Redis is away.
func (p *probe) run(ctx context.Context) {
	for ctx.Err() == nil {
		ask, cancel := context.WithTimeout(ctx, time.Second)
		err := p.broker.Ping(ask)
		cancel()
		p.last.Store(&err)
		pause := 2 * time.Second
		if err != nil {
			pause = 250 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}
