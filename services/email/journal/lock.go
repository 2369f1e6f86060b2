package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	bbolterrors "go.etcd.io/bbolt/errors"
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
// replaced. A folder that was put back as it was, by a copy too, is taken again.
func (j *Journal) held() error {
	ours, err := j.lock.Stat()
	if err != nil {
		return err
	}
	theirs, err := os.Stat(filepath.Join(j.dir, "lock"))
	if err == nil && os.SameFile(ours, theirs) {
		return nil
	}
	if err == nil && j.active != nil { // after Open
		err = j.retake()
	}
	if err != nil {
		return fmt.Errorf("%s was removed or replaced while in use; put it back as it was, or restart: %w", j.dir, err)
	}
	return nil
}

var errOther = errors.New("what is there now differs")

// retake takes the lock of a folder that holds what this journal had written, and its files.
func (j *Journal) retake() error {
	l := flock.New(filepath.Join(j.dir, "lock"), flock.SetFlag(os.O_RDWR))
	switch got, err := l.TryLock(); {
	case err != nil:
		return err
	case !got:
		return errors.Join(errors.New("another process has it"), l.Close())
	}
	f, err := os.OpenFile(j.active.path, os.O_RDWR, 0)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	here, now, same := make([]byte, j.active.size), make([]byte, j.active.size), false
	if _, err = j.active.f.ReadAt(here, 0); err == nil {
		_, err = f.ReadAt(now, 0)
		fi, ferr := f.Stat()
		same = ferr == nil && fi.Size() == j.active.size && bytes.Equal(here, now)
	}
	// Times out if the folder has the same file as before, which is then open already.
	db, ierr := openIDs(filepath.Join(j.dir, idsName), j.active.identity, j.active.number)
	if again := errors.Is(ierr, bbolterrors.ErrTimeout); again {
		ierr = nil
	} else if ierr == nil {
		same = same && db.state == j.ids.state
	}
	if err = errors.Join(err, ierr); err == nil && !same {
		err = errOther
	}
	if err != nil {
		if db != nil {
			err = errors.Join(err, db.db.Close())
		}
		return errors.Join(err, f.Close(), l.Close())
	}
	old := []io.Closer{j.active.f, j.lock}
	if db != nil {
		old, j.ids = append(old, j.ids.db), db
	}
	j.active.f, j.lock = f, l
	for _, c := range old {
		_ = c.Close() // of removed files
	}
	j.o.Log.Warn("the journal was put back", "journal", j.dir)
	return nil
}
