package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/milepost/milepost/pkg/stage/killpoint"
)

// logFile is the log: the file at path, and the files that it was renamed to.
type logFile struct {
	path string
	f    *os.File // appends; nil until the first use

	unsure bool // a sync failed, or power may have been lost: the disk may lack lines that are loose

	rotations int // times that the file at path was no longer f
}

// current opens the file at path unless it is open already, and creates it if necessary. It returns
// the file's inode and size.
func (l *logFile) current() (id uint64, size int64, err error) {
	at, err := os.Stat(l.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, 0, err
	}
	if l.f != nil {
		held, herr := l.f.Stat()
		if herr != nil {
			return 0, 0, herr
		}
		if err != nil || !os.SameFile(at, held) {
			_ = l.sync() // renamed or deleted
			_ = l.f.Close()
			l.f = nil
			l.rotations++
		}
	}
	if l.f == nil {
		if err == nil && !at.Mode().IsRegular() {
			return 0, 0, &notRegularError{l.path}
		}
		f, oerr := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
		if oerr != nil {
			return 0, 0, oerr
		}
		if err != nil {
			if err := syncDir(filepath.Dir(l.path)); err != nil {
				_ = f.Close()
				return 0, 0, err
			}
		}
		l.f = f
	}
	fi, err := l.f.Stat()
	if err != nil {
		return 0, 0, err
	}
	if id, err = fileID(l.f); err != nil {
		return 0, 0, err
	}
	return id, fi.Size(), nil
}

// needsBreak reports whether the open file, of that size, ends in the middle of a line, which
// another program must have left.
func (l *logFile) needsBreak(size int64) (bool, error) {
	if size == 0 {
		return false, nil
	}
	var last [1]byte
	if _, err := l.f.ReadAt(last[:], size-1); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return last[0] != '\n', nil
}

func (l *logFile) append(lines []byte) error {
	if killpoint.On {
		half := len(lines) / 2
		if _, err := l.f.Write(lines[:half]); err != nil {
			return err
		}
		killpoint.Pass("journal.mid-line")
		lines = lines[half:]
	}
	if _, err := l.f.Write(lines); err != nil {
		return err
	}
	killpoint.Pass("journal.after-line")
	return nil
}

// sync waits until the disk has the open file.
func (l *logFile) sync() error {
	if l.f == nil {
		return nil
	}
	err := l.f.Sync()
	if err != nil {
		l.unsure = true
	}
	return err
}

func (l *logFile) close() error {
	if l.f == nil {
		return nil
	}
	defer func() { l.f = nil }()
	return l.f.Close()
}

// syncAll syncs the files that the records' lines are in.
func (l *logFile) syncAll(records []*record) error {
	files, err := l.files()
	for _, f := range files {
		if !slices.ContainsFunc(records, func(r *record) bool { return r.file == f.id }) {
			continue
		}
		file, ferr := os.OpenFile(f.name, os.O_RDWR, 0)
		if errors.Is(ferr, fs.ErrNotExist) {
			continue // renamed since it was listed, so the name is still in the kernel's hands
		}
		if ferr == nil {
			ferr = errors.Join(file.Sync(), file.Close())
		}
		err = errors.Join(err, ferr)
	}
	return err
}

// refill writes r's lines once more, at their offset of their file, if that is still their place.
func (l *logFile) refill(r *record) error {
	files, err := l.files()
	for _, f := range files {
		if f.id == r.file && err == nil {
			_, err = fill(f.name, r)
		}
	}
	return err
}

// complete adds the missing bytes of r's lines at their offset of their file, whatever its name is
// by now. If their place is gone, because the file was truncated or deleted or another program
// wrote there, it returns the lines that are in no file, for a new place. It never truncates and
// never overwrites bytes that are not r's.
func (l *logFile) complete(r *record) (rest []byte, err error) {
	files, err := l.files()
	for {
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			if f.id != r.file {
				continue
			}
			if ok, err := fill(f.name, r); ok || err != nil {
				return nil, err
			}
		}
		best := 0
		for _, f := range files {
			n, err := matching(f.name, r)
			if err != nil {
				return nil, err
			}
			best = max(best, n)
		}
		if best == len(r.lines) {
			return nil, nil
		}
		var now []named
		if now, err = l.files(); err == nil && slices.Equal(files, now) {
			return r.lines[bytes.LastIndexByte(r.lines[:best], '\n')+1:], nil
		}
		files = now // the log was rotated meanwhile
	}
}

type named struct {
	name string
	id   uint64
}

// files lists the log and the files beside it whose names begin with its name, as rotated ones do.
func (l *logFile) files() ([]named, error) {
	dir, base := filepath.Split(l.path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []named
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), base) {
			continue
		}
		name := filepath.Join(dir, e.Name())
		if fi, err := os.Stat(name); err != nil || !fi.Mode().IsRegular() {
			continue
		}
		id, err := fileIDAt(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files = append(files, named{name, id})
	}
	return files, nil
}

// fill writes r's lines at their offset of the file name, if that place holds only r's bytes, or
// zeros where a loss of power lost them. It writes all of them again: after a failed sync the page
// cache may differ from the disk anywhere.
func fill(name string, r *record) (bool, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // renamed since it was listed
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || fi.Size() < r.offset {
		return false, err
	}
	there, err := readAt(f, r)
	if err != nil {
		return false, err
	}
	for i, c := range there {
		if c != r.lines[i] && c != 0 {
			return false, nil
		}
	}
	lines, offset := r.lines, r.offset
	if killpoint.On {
		half := len(lines) / 2
		if _, err := f.WriteAt(lines[:half], offset); err != nil {
			return false, err
		}
		killpoint.Pass("journal.mid-recovery")
		lines, offset = lines[half:], offset+int64(half)
	}
	if _, err := f.WriteAt(lines, offset); err != nil {
		return false, err
	}
	if err := f.Sync(); err != nil {
		return false, err
	}
	return true, nil
}

// matching returns how many bytes of r's lines, from the first on, the file name has at their
// offset.
func matching(name string, r *record) (int, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	there, err := readAt(f, r)
	if err != nil {
		return 0, err
	}
	for i, c := range there {
		if c != r.lines[i] {
			return i, nil
		}
	}
	return len(there), nil
}

// readAt reads what f has in the place of r's lines, as far as f goes.
func readAt(f *os.File, r *record) ([]byte, error) {
	b := make([]byte, len(r.lines))
	n, err := f.ReadAt(b, r.offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:n], nil
}

// notRegularError: the path names something else than a file.
type notRegularError struct{ path string }

func (e *notRegularError) Error() string { return fmt.Sprintf("%q is not a regular file", e.path) }

func (e *notRegularError) Is(target error) bool { return target == ErrPath }
