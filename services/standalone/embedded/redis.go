// Package embedded runs, inside this process, what the pipeline otherwise finds elsewhere: a Redis and a store that
// speaks MongoDB's protocol. They are for trying and testing, not for measuring.
package embedded

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// Redis is a Redis in the memory of this process; what it holds ends with it.
type Redis struct {
	server *miniredis.Miniredis
	stop   chan struct{}
	clock  sync.WaitGroup
}

// tick is how often keys grow older, and so how early one may expire.
const tick = 50 * time.Millisecond

// ErrTaken marks the error of a listening address that another program has.
var ErrTaken = errors.New("another program listens there")

// StartRedis listens on addr ("127.0.0.1:0" takes a free port). An address that is taken gives an error wrapping
// [ErrTaken]. The caller closes it.
func StartRedis(addr string) (*Redis, error) {
	r := &Redis{server: miniredis.NewMiniRedis(), stop: make(chan struct{})}
	if err := r.server.StartAddr(addr); err != nil {
		return nil, fmt.Errorf("embedded Redis: %w", taken(addr, err))
	}
	r.clock.Go(r.age)
	return r, nil
}

// Addr is the host:port it listens on.
func (r *Redis) Addr() string { return r.server.Addr() }

// Close ends the connections and forgets everything.
func (r *Redis) Close() {
	close(r.stop)
	r.clock.Wait()
	r.server.Close()
}

// age makes keys expire: miniredis has the wall clock for TIME, but its keys grow older only when told. (Its ClockTTL
// would visit every key with an expiry at every command.)
func (r *Redis) age() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for last := time.Now(); ; {
		select {
		case <-r.stop:
			return
		case now := <-ticker.C:
			r.server.FastForward(now.Sub(last))
			last = now
		}
	}
}

// taken adds ErrTaken to the error of a listening address that is in use.
func taken(addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, errInUseWindows) {
		return fmt.Errorf("%s: %w", addr, ErrTaken)
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return fmt.Errorf("%s: %w", addr, op.Err)
	}
	return fmt.Errorf("%s: %w", addr, err)
}

const errInUseWindows = syscall.Errno(10048) // WSAEADDRINUSE
