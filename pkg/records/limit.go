package records

import (
	"context"
	"time"
)

// limited ends ctx after the store's time limit. The driver applies its limit only to a context
// without a deadline. A handler's context has one, so a call on a dead connection would block until
// the handler times out.
func (s *Store) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := time.Duration(s.limit.Load())
	if limit <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, limit)
}
