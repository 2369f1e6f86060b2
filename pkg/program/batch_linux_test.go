package program

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// All threads are moved, and those that start later are of the same class.
func TestScheduleInBatches(t *testing.T) {
	if err := scheduleInBatches(); errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
		t.Skipf("this system does not let programs choose: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	blocked := make(chan struct{})
	defer close(blocked)
	for range 8 {
		started := make(chan struct{})
		go func() {
			runtime.LockOSThread() // never unlocked: each keeps a thread of its own
			close(started)
			<-blocked
		}()
		<-started
	}
	tasks, err := filepath.Glob("/proc/self/task/*/stat")
	if err != nil || len(tasks) < 9 {
		t.Fatalf("%d threads, %v", len(tasks), err)
	}
	for _, path := range tasks {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, fields, _ := strings.Cut(string(b), ") ") // after the name, from field 3 on: proc_pid_stat(5)
		if policy := strings.Fields(fields)[41-3]; policy != fmt.Sprint(unix.SCHED_BATCH) {
			t.Errorf("%s: scheduling policy %s, want %d", path, policy, unix.SCHED_BATCH)
		}
	}
}
