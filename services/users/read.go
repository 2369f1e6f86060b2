package users

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/milepost/milepost/pkg/records"
)

const (
	attempts       = 3
	attemptTimeout = 1500 * time.Millisecond
	firstPause     = 50 * time.Millisecond
)

// ErrStore: the store did not answer a read.
var ErrStore = errors.New("the store does not answer")

// read asks the store up to three times, with growing pauses, while the error may pass. An attempt
// may take 1.5 s.
func read[T any](ctx context.Context, u *Users, what string, ask func(context.Context) (T, error)) (T, error) {
	for n, pause := 1, firstPause; ; n, pause = n+1, 2*pause {
		start := time.Now()
		limited, cancel := context.WithTimeout(ctx, attemptTimeout)
		v, err := ask(limited)
		cancel()
		u.seconds.WithLabelValues(what).Observe(time.Since(start).Seconds())
		passing := err != nil && (records.Down(err) || errors.Is(err, context.DeadlineExceeded))
		switch {
		case err == nil:
			u.reads.WithLabelValues(what, "answered").Inc()
			return v, nil
		case !passing:
			u.reads.WithLabelValues(what, "failed").Inc()
			return v, err
		case n == attempts || ctx.Err() != nil:
			u.reads.WithLabelValues(what, "failed").Inc()
			return v, fmt.Errorf("%w: %w", ErrStore, err)
		}
		u.reads.WithLabelValues(what, "tried again").Inc()
		select {
		case <-ctx.Done():
			return v, fmt.Errorf("%w: %w", ErrStore, err)
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}
