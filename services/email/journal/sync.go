package journal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/milepost/milepost/pkg/stage/killpoint"
)

// syncEvery is how long lines are only in the journal on the disk, and in the log in memory. Until
// then a loss of power takes them from the log, and the next Open puts them back.
const syncEvery = time.Second

// startSync syncs what the last holder did not, and starts the goroutine that syncs the log while
// Write goes on. j.stop ends it.
func (j *Journal) startSync() {
	if j.log.unsure = !j.sameBoot(); !j.log.unsure && len(j.loose) > 0 {
		err := j.log.syncAll(j.loose)
		j.log.unsure = err != nil
		j.synced(j.loose[len(j.loose)-1], err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ctx.Done():
				return
			case <-j.dirty:
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(syncEvery):
				j.syncBehind()
			}
		}
	}()
	j.stop = func() {
		cancel()
		<-ended
	}
}

// syncBehind syncs the log without keeping Write waiting.
func (j *Journal) syncBehind() {
	j.mu.Lock()
	n, f := len(j.loose), j.log.f
	if n == 0 || f == nil {
		j.mu.Unlock()
		return
	}
	newest := j.loose[n-1]
	j.mu.Unlock()
	err := f.Sync()
	j.mu.Lock()
	defer j.mu.Unlock()
	if errors.Is(err, os.ErrClosed) { // the log was rotated, and synced before
		return
	}
	if err != nil {
		j.log.unsure = true
	}
	j.synced(newest, err)
}

// syncLog waits until the disk has the lines that are in the log.
func (j *Journal) syncLog() error {
	if len(j.loose) == 0 {
		return nil
	}
	err := j.log.sync()
	j.synced(j.loose[len(j.loose)-1], err)
	return err
}

// synced notes how a sync of the records up to newest ended.
func (j *Journal) synced(newest *record, err error) {
	i := slices.Index(j.loose, newest)
	if i < 0 {
		return
	}
	if err != nil {
		// Linux may have dropped what it could not write. restore writes it again, or the
		// next Open does if the process ends before.
		j.o.Log.Warn("log not synced", "log", j.log.path, "err", err)
		_ = os.Remove(j.bootFile())
		return
	}
	killpoint.Pass("journal.after-sync")
	if err := j.active.note(newest, done); err != nil {
		j.o.Log.Warn("journal's mark not written", "err", err)
	}
	if j.loose = slices.Clone(j.loose[i+1:]); len(j.loose) > 0 {
		j.wakeSync()
	}
}

func (j *Journal) wakeSync() {
	select {
	case j.dirty <- struct{}{}:
	default:
	}
}

// restore writes lines again that a loss of power or a failed sync may have taken from the log.
func (j *Journal) restore() error {
	if !j.log.unsure {
		return nil
	}
	for _, r := range j.loose {
		if err := j.log.refill(r); err != nil {
			return err
		}
	}
	if err := j.markBoot(); err != nil {
		return err
	}
	j.log.unsure = false
	if n := len(j.loose); n > 0 {
		j.synced(j.loose[n-1], nil)
	}
	return nil
}

// The file boot has the ID of the machine's last boot. While that is the same, what was written is
// at least in memory, and no line needs to be looked for.
func (j *Journal) bootFile() string { return filepath.Join(j.dir, "boot") }

// bootID is empty where the system has none; then all boots differ.
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(b)
}

func (j *Journal) sameBoot() bool {
	b, err := os.ReadFile(j.bootFile())
	return err == nil && len(b) > 0 && string(b) == bootID()
}

func (j *Journal) markBoot() error { return create(j.bootFile(), []byte(bootID())) }
