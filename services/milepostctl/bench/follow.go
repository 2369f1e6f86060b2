//go:build linux

package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// follower reads the lines of a log as they are written. The kernel tells of each write: looking again and again would take
// the time of what is measured.
type follower struct {
	inotify int
	f       *os.File
	buf     []byte // the end of what was read: a line that has only begun
}

func follow(path string) (*follower, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("inotify: %w", err), f.Close())
	}
	l := &follower{inotify: fd, f: f, buf: make([]byte, 0, 1<<16)}
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY); err != nil {
		l.close()
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	return l, nil
}

func (l *follower) close() {
	_ = unix.Close(l.inotify)
	_ = l.f.Close() // it was only read
}

// read calls line with the number of each submission whose line has come since the last call.
func (l *follower) read(line func(number int)) error {
	var news [4096]byte
	for {
		if _, err := unix.Read(l.inotify, news[:]); err != nil {
			break // nothing more to tell
		}
	}
	for {
		n, err := l.f.Read(l.buf[len(l.buf):cap(l.buf)])
		l.buf = l.buf[:len(l.buf)+n]
		rest := l.buf
		for {
			end := bytes.IndexByte(rest, '\n')
			if end < 0 {
				break
			}
			if number, ok := numberIn(rest[:end]); ok {
				line(number)
			}
			rest = rest[end+1:]
		}
		l.buf = l.buf[:copy(l.buf, rest)]
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("read the log: %w", err)
		}
	}
}

// numberIn is the number of the submission that a line of the log is about.
func numberIn(line []byte) (n int, ok bool) {
	at := bytes.Index(line, []byte(mark))
	if at < 0 || len(line) < at+len(mark)+digits {
		return 0, false
	}
	for _, b := range line[at+len(mark) : at+len(mark)+digits] {
		if b < '0' || b > '9' {
			return 0, false
		}
		n = n*10 + int(b-'0')
	}
	return n, true
}
