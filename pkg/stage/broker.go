package stage

import "context"

// Broker is one pipeline's Redis: what stages, publishers and tools share. Its methods are safe for concurrent use.
type Broker struct{}

// Open prepares the clients; it does not connect, and does not fail when Redis is not there yet. It refuses options that
// cannot work. The caller closes it.
func Open(o Options) (*Broker, error) { panic("not built yet") }

// Close closes the clients. Stages and publishers must have stopped.
func (b *Broker) Close() error { panic("not built yet") }

// Ping answers whether Redis is there and writable: nil, or an error wrapping [ErrUnavailable]. Redis Cluster is refused.
func (b *Broker) Ping(ctx context.Context) error { panic("not built yet") }
