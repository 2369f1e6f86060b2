package stagetest

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"
)

const patience = time.Minute

// Eventually waits until cond is true, asking every few milliseconds. After a minute it fails the
// test with what was waited for: "all events arrive". Call it from the test's own goroutine.
func Eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s in vain: %s", patience, what)
		}
	}
}

// OK ends the test with err if there is one.
func OK(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Output is what a program writes, to be read meanwhile. Its methods are safe for concurrent use.
type Output struct {
	mu  sync.Mutex
	all strings.Builder
}

func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.Write(b)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.String()
}

// Run runs a stage until stop is called or the test ends, and then wants nil from it.
func Run(t testing.TB, s interface{ Run(context.Context) error }) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v, want nil after a drain", err)
		}
	})
	t.Cleanup(stop)
	return stop
}
