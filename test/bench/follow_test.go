//go:build linux

package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// tail is a log whose Read waits at the end for more. It uses inotify, because polling would take
// CPU time from what is measured. Close ends a Read with [os.ErrClosed].
type tail struct{ log, events *os.File }

func openTail(path string) (*tail, error) {
	log, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err == nil {
		_, err = unix.InotifyAddWatch(fd, path, unix.IN_MODIFY)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("inotify: %w", err), log.Close())
	}
	return &tail{log, os.NewFile(uintptr(fd), "inotify")}, nil
}

func (t *tail) Read(b []byte) (int, error) {
	for {
		n, err := t.log.Read(b)
		if n > 0 || !errors.Is(err, io.EOF) {
			return n, err
		}
		var news [4096]byte
		if _, err := t.events.Read(news[:]); err != nil {
			return 0, err
		}
	}
}

func (t *tail) Close() error { return errors.Join(t.events.Close(), t.log.Close()) }

// numberIn is the number of the submission that a line of the log is about.
func numberIn(line []byte) (n int, ok bool) {
	_, rest, ok := bytes.Cut(line, []byte(mark))
	if !ok || len(rest) < digits {
		return 0, false
	}
	number, err := strconv.ParseUint(string(rest[:digits]), 10, 63)
	return int(number), err == nil
}
