package stage

import "sync"

const (
	scriptMost  = 256     // entries in one script call: about a millisecond of Redis' time
	scriptBytes = 1 << 20 // payloads in one script call, unless one alone is larger
)

// gathering holds what comes while scripts are under way, for the next one.
type gathering[T any] struct {
	most   int          // items in one script
	atOnce int          // scripts that may be under way; each but the first must be full
	size   func(*T) int // bytes of an item's payloads

	mu     sync.Mutex
	wake   sync.Cond
	list   []T
	under  int // scripts under way
	closed bool
}

func gather[T any](most, atOnce int, size func(*T) int) *gathering[T] {
	g := &gathering[T]{most: most, atOnce: atOnce, size: size}
	g.wake.L = &g.mu
	return g
}

// due tells whether a batch may be taken.
func (g *gathering[T]) due() bool {
	return g.closed || len(g.list) > 0 && g.under == 0 || len(g.list) >= g.most && g.under < g.atOnce
}

// add returns false, and adds nothing, after close.
func (g *gathering[T]) add(x ...T) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	if g.list = append(g.list, x...); g.due() {
		g.wake.Signal()
	}
	return true
}

// take waits for items and returns those of one script, which is under way until done. It returns
// none after close, when nothing is left.
func (g *gathering[T]) take() []T {
	g.mu.Lock()
	defer g.mu.Unlock()
	for !g.due() {
		g.wake.Wait()
	}
	n := fitting(g.list, g.most, g.size)
	if n == 0 {
		return nil
	}
	g.under++
	batch := g.list[:n:n]
	if g.list = g.list[n:]; len(g.list) == 0 {
		g.list = nil
	}
	return batch
}

// done ends the script of a batch, which is not used any more.
func (g *gathering[T]) done(batch []T) {
	clear(batch)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.list == nil {
		g.list = batch[:0]
	}
	if g.under--; g.due() {
		g.wake.Signal()
	}
}

// waiting is how many items wait.
func (g *gathering[T]) waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.list)
}

// close has take return what is left, and then nothing.
func (g *gathering[T]) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.wake.Broadcast()
}

// fitting is how many of list, from the front, one script call takes: at most most and scriptBytes,
// but the first in any case.
func fitting[T any](list []T, most int, size func(*T) int) int {
	bytes := 0
	for i := range list[:min(most, len(list))] {
		if bytes += size(&list[i]); bytes > scriptBytes && i > 0 {
			return i
		}
	}
	return min(most, len(list))
}
