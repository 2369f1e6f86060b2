package program

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// scheduleInBatches puts the program's threads, and those they will start, into the scheduling class SCHED_BATCH, unless they
// are in another one than the usual: sched(7).
func scheduleInBatches() error {
	var failed error
	for range 2 { // a thread may start one before it is moved itself
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, t := range tasks {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				continue
			}
			a, err := unix.SchedGetAttr(id, 0)
			if err == nil && a.Policy == unix.SCHED_NORMAL {
				a.Policy = unix.SCHED_BATCH
				err = unix.SchedSetAttr(id, a, 0)
			}
			if !errors.Is(err, unix.ESRCH) { // it has ended
				failed = errors.Join(failed, err)
			}
		}
	}
	return failed
}
