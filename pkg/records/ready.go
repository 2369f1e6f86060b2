package records

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.mongodb.org/mongo-driver/v2/event"
)

// watch knows what the driver's own heartbeats say of the store, so that asking costs nothing.
type watch struct {
	mu       sync.Mutex
	writable bool
	failure  error // of the last heartbeat that failed
	asking   bool
}

// Ready is nil while the driver knows a server that takes writes, else an error that says why it does not. It does not
// block. The driver by itself asks a server that is away every 10 s only; being asked here makes it ask at once, so that who
// is waited for is not waited for longer than it takes.
func (s *Store) Ready() error {
	w := s.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.writable {
		return nil
	}
	if !w.asking {
		w.asking = true
		go func() {
			_ = s.Ping(context.Background()) // 2 s at most; what it meets comes to the watch
			w.mu.Lock()
			defer w.mu.Unlock()
			w.asking = false
		}()
	}
	return fmt.Errorf("mongo is away: %w", w.failure)
}

func newWatch() *watch { return &watch{failure: errors.New("not connected yet")} }

func (w *watch) monitor() *event.ServerMonitor {
	return &event.ServerMonitor{
		ServerHeartbeatFailed: func(e *event.ServerHeartbeatFailedEvent) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.failure = e.Failure
		},
		TopologyDescriptionChanged: func(e *event.TopologyDescriptionChangedEvent) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.writable = false
			for _, server := range e.NewDescription.Servers {
				switch server.Kind {
				case "Standalone", "RSPrimary", "Mongos", "LoadBalancer":
					w.writable = true
				case "RSSecondary", "RSArbiter", "RSOther", "RSGhost":
					w.failure = errors.New("no server takes writes")
				}
			}
		},
	}
}
