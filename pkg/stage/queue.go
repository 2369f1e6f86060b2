package stage

import (
	"slices"
	"sync"

	"github.com/milepost/milepost/pkg/stage/internal/poison"
)

// queue holds deliveries until a worker takes them, in the order in which they were pushed.
type queue struct {
	mu       sync.Mutex
	wake     sync.Cond
	waiting  []*delivery
	apart    int // a delivery with so many tries gets a handler call of its own
	running  int // deliveries in handler calls
	alone    bool
	paused   bool
	closed   bool
	draining bool // drain waits
}

// newQueue makes the queue of a stage with that Config.MaxTries. A delivery that failed twice, or
// has its last try before it, is handled in a call of its own, so that it cannot fail the other
// events of a batch.
func newQueue(maxTries int) *queue {
	q := &queue{apart: poison.OwnCallFrom(maxTries)}
	q.wake.L = &q.mu
	return q
}

func (q *queue) push(in ...*delivery) {
	q.mu.Lock()
	q.waiting = append(q.waiting, in...)
	q.mu.Unlock()
	for range in { // a worker that is awake takes more without being woken
		q.wake.Signal()
	}
}

// drop removes a lane's deliveries of earlier eras.
func (q *queue) drop(of *lane, era int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = slices.DeleteFunc(q.waiting, func(d *delivery) bool { return d.lane == of && d.era < era })
}

// take waits for deliveries and returns up to most of them, which count as running until done.
// While a delivery that is to be handled alone is running, nothing else runs. It returns nil when
// the queue is closed.
func (q *queue) take(most int) []*delivery {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.closed {
		if n := q.together(most); n > 0 {
			batch := make([]*delivery, n)
			copy(batch, q.waiting)
			clear(q.waiting[:n])
			q.waiting = q.waiting[n:]
			q.running += n
			q.alone = batch[0].alone
			return batch
		}
		q.wake.Wait()
	}
	return nil
}

// together is how many deliveries from the front may run now, in one call.
func (q *queue) together(most int) int {
	most = min(most, len(q.waiting))
	if q.paused || q.alone || most == 0 || q.waiting[0].alone && q.running > 0 {
		return 0
	}
	for i, d := range q.waiting[:most] {
		if d.alone || d.Tries >= q.apart {
			return max(i, 1)
		}
	}
	return most
}

// done tells that n deliveries no longer run.
func (q *queue) done(n int) {
	q.mu.Lock()
	q.running -= n
	wake := q.alone || q.running == 0 && (q.draining || len(q.waiting) > 0 && q.waiting[0].alone)
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

// drain waits until nothing is queued or running, or until the queue is closed. While the queue is
// paused it waits only for what is running.
func (q *queue) drain() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.draining = true
	for !q.closed && (q.running > 0 || !q.paused && len(q.waiting) > 0) {
		q.wake.Wait()
	}
}
