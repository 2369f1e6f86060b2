package webapi

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// probe pings Redis regularly, so that readiness need not.
type probe struct{ last atomic.Pointer[error] }

func (p *probe) ready() error {
	if err := p.last.Load(); err != nil {
		return *err
	}
	return errors.New("connecting to redis")
}

// run pings Redis until ctx ends: two seconds after an answer, 250 ms after an error. ping bounds
// itself, so that it can tell why there is no answer.
func (p *probe) run(ctx context.Context, ping func(context.Context) error) {
	for ctx.Err() == nil {
		err := ping(ctx)
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
