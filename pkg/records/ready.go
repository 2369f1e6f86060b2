package records

import (
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
}

// Ready is nil while the driver knows a server that takes writes, else an error that says why it does not. It does not
// block: the driver asks the servers every 10 s, and at once when a call fails.
func (s *Store) Ready() error {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	if s.watch.writable {
		return nil
	}
	return fmt.Errorf("mongo is away: %w", s.watch.failure)
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
