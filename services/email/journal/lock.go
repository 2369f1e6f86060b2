package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// resolve follows symbolic links, so that all names of a log lead to one journal.
func resolve(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, lerr := os.Lstat(path); lerr == nil {
			return "", fmt.Errorf("%q is a symbolic link to nothing: %w", path, ErrPath)
		}
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return "", err
		}
		return filepath.Join(dir, filepath.Base(path)), nil
	}
	if err != nil {
		return "", err
	}
	fi, err := os.Stat(real)
	if err != nil {
		return "", err
	}
	if !fi.Mode().IsRegular() {
		return "", &notRegularError{path}
	}
	return real, nil
}

// acquire makes the folder and takes its lock.
func (j *Journal) acquire(ctx context.Context) error {
	if err := os.Mkdir(j.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	path := filepath.Join(j.dir, "lock")
	told := false
	for {
		l := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
		got, err := l.TryLock()
		if got {
			j.lock = l
			if err = j.held(); err == nil {
				return nil
			}
			j.lock = nil
		}
		if cerr := l.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("lock journal: %w", err)
		}
		if !told && j.o.Standby != nil {
			told = true
			j.o.Standby()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// held checks that other processes would take the same lock: that the folder was not removed or
// replaced.
func (j *Journal) held() error {
	ours, err := j.lock.Stat()
	if err != nil {
		return err
	}
	theirs, err := os.Stat(filepath.Join(j.dir, "lock"))
	if err != nil || !os.SameFile(ours, theirs) {
		return fmt.Errorf("%s was removed or replaced while in use; put it back, or restart", j.dir)
	}
	return nil
}
