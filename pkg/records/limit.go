package records

import "context"

// limited ends ctx after the store's own time limit. The driver applies its limit only to a context without a deadline,
// and a handler's has one: without this, a connection whose other end is gone is waited for until the handler times out.
func (s *Store) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.limit <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, s.limit)
}
