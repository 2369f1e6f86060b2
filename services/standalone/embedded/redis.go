// Package embedded runs a Redis and a store with MongoDB's protocol inside this process. Use them
// to try and to test, not to measure.
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

// Redis is a Redis in the memory of this process. Its data end with it.
type Redis struct {
	server *miniredis.Miniredis
	stop   chan struct{}
	clock  sync.WaitGroup
}

// tick is how often keys age. A key may expire this much too early.
const tick = 50 * time.Millisecond

// ErrTaken: another program listens on the address.
var ErrTaken = errors.New("another program listens there")

// StartRedis starts a Redis that listens on addr ("127.0.0.1:0" takes a free port). If the
// address is in use, the error wraps [ErrTaken]. The caller closes it.
func StartRedis(addr string) (*Redis, error) {
	r := &Redis{server: miniredis.NewMiniRedis(), stop: make(chan struct{})}
	if err := r.server.StartAddr(addr); err != nil {
		return nil, fmt.Errorf("embedded Redis: %w", taken(addr, err))
	}
	r.clock.Go(r.age)
	return r, nil
}

func (r *Redis) Addr() string { return r.server.Addr() }

func (r *Redis) Close() {
	close(r.stop)
	r.clock.Wait()
	r.server.Close()
}

// age makes keys expire: miniredis uses the wall clock for TIME, but ages its keys only in
// FastForward. (Its ClockTTL would visit every key with an expiry at every command.)
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

// taken adds ErrTaken to the error of listening on an address that is in use.
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
