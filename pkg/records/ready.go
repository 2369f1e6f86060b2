package records

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.mongodb.org/mongo-driver/v2/event"
)

// watch remembers what the driver's heartbeats say about the store, so that asking is free.
type watch struct {
	mu       sync.Mutex
	writable bool
	failure  error  // of the last heartbeat that failed, or of DNS
	set      string // the replica set that the URL names
	asking   bool
}

// Ready returns nil while the driver knows a server that accepts writes, else the reason why not.
// It does not block. It triggers an immediate check; the driver alone polls every 10 s.
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
			_ = s.Ping(context.Background()) // 2 s at most; the monitor sees the result
			w.mu.Lock()
			defer w.mu.Unlock()
			w.asking = false
		}()
	}
	return fmt.Errorf("mongo is away: %w", w.failure)
}

func (w *watch) failed(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failure = err
}

func newWatch() *watch { return &watch{failure: errors.New("not connected yet")} }

func (w *watch) monitor() *event.ServerMonitor {
	return &event.ServerMonitor{
		ServerHeartbeatFailed: func(e *event.ServerHeartbeatFailedEvent) {
			w.failed(e.Failure)
		},
		TopologyDescriptionChanged: func(e *event.TopologyDescriptionChangedEvent) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.writable = false
			if len(e.NewDescription.Servers) == 0 {
				w.failure = fmt.Errorf("no server that the URL names belongs to the replica set %q", w.set)
			}
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
