package stage

import (
	"context"
	"time"
)

// backoff waits between attempts: 50 ms, doubled up to 1 s.
type backoff struct{ next time.Duration }

// wait returns false if ctx ended.
func (b *backoff) wait(ctx context.Context) bool {
	def(&b.next, 50*time.Millisecond)
	t := time.NewTimer(b.next)
	defer t.Stop()
	b.next = min(2*b.next, time.Second)
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// nudge wakes who waits on c, a channel with room for one, or will.
func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
