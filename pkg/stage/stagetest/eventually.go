package stagetest

import (
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
