package stage

import (
	"context"
	"sync"
)

// queue holds what was read until a worker takes it. An entry that may have crashed processes is handled while nothing
// else is, so that bystanders do not share its fate.
type queue struct {
	mu       sync.Mutex
	wake     sync.Cond
	ready    []*delivery
	suspects []*delivery
	apart    int // tries after which an entry has a call of its own
	running  int // events in handler calls
	alone    bool
	paused   bool
	closed   bool
	draining bool // someone waits for the queue to be idle
}

// newQueue makes a queue for entries of so many tries. One that has failed twice, or has its last try before it, shares no
// call, so that whatever spoils a batch does not end those that are in it by chance.
func newQueue(maxTries int) *queue {
	q := &queue{apart: max(1, min(2, maxTries-1))}
	q.wake.L = &q.mu
	return q
}

func (q *queue) push(in []*delivery, suspect func(*delivery) bool) {
	q.mu.Lock()
	for _, d := range in {
		if suspect(d) {
			q.suspects = append(q.suspects, d)
		} else {
			q.ready = append(q.ready, d)
		}
	}
	q.mu.Unlock()
	for range len(in) { // a worker that is awake takes more without being woken
		q.wake.Signal()
	}
}

// take waits for deliveries, puts as many into out as there are and fit, and counts them as running. alone means that
// nothing else runs until done(1). It takes none when the queue is closed.
func (q *queue) take(out []*delivery) (n int, alone bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		switch {
		case q.closed:
			return 0, false
		case q.paused || q.alone:
		case len(q.suspects) > 0:
			if q.running == 0 {
				out[0], q.suspects = q.suspects[0], q.suspects[1:]
				q.running, q.alone = 1, true
				return 1, true
			}
		case len(q.ready) > 0:
			n = q.together(copy(out, q.ready))
			clear(q.ready[:n])
			q.ready = q.ready[n:]
			q.running += n
			return n, false
		}
		q.wake.Wait()
	}
}

// together is how many of the first n that are ready may share a call.
func (q *queue) together(n int) int {
	if n > 1 {
		for i, d := range q.ready[:n] {
			if d.Tries >= q.apart {
				return max(i, 1)
			}
		}
	}
	return n
}

// done gives back what take counted.
func (q *queue) done(n int) {
	q.mu.Lock()
	q.running -= n
	wake := q.alone || q.running == 0 && (len(q.suspects) > 0 || q.draining)
	q.alone = false
	q.mu.Unlock()
	if wake {
		q.wake.Broadcast()
	}
}

func (q *queue) pause(on bool) {
	q.mu.Lock()
	q.paused = on
	q.mu.Unlock()
	q.wake.Broadcast()
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.wake.Broadcast()
}

// idle waits until nothing is queued or running, or the stage is paused (what it holds cannot be finished then), or ctx
// ends.
func (q *queue) idle(ctx context.Context) {
	defer context.AfterFunc(ctx, q.wake.Broadcast)()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.draining = true
	for ctx.Err() == nil && (q.running > 0 || !q.paused && len(q.ready)+len(q.suspects) > 0) {
		q.wake.Wait()
	}
}
