//go:build linux

package main

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
	events *os.File // of inotify
	f      *os.File
	buf    []byte // the end of what was read: a line that has only begun
	came   func(numbers []int)
	ended  chan error
}

// follow calls came with the numbers of the submissions whose lines have come, from one goroutine, until close.
func follow(path string, came func(numbers []int)) (*follower, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("inotify: %w", err), f.Close())
	}
	l := &follower{events: os.NewFile(uintptr(fd), "inotify"), f: f, buf: make([]byte, 0, 1<<16), came: came, ended: make(chan error, 1)}
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY); err != nil {
		return nil, errors.Join(fmt.Errorf("watch %s: %w", path, err), l.events.Close(), f.Close())
	}
	go func() { l.ended <- l.loop() }()
	return l, nil
}

// close ends the following and returns what went wrong with it.
func (l *follower) close() error {
	err := l.events.Close()
	return errors.Join(<-l.ended, err, l.f.Close())
}

func (l *follower) loop() error {
	var news [4096]byte
	for {
		if err := l.read(); err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		if _, err := l.events.Read(news[:]); errors.Is(err, os.ErrClosed) {
			return nil
		} else if err != nil {
			return fmt.Errorf("inotify: %w", err)
		}
	}
}

// read takes in what was written since.
func (l *follower) read() error {
	var numbers []int
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
				numbers = append(numbers, number)
			}
			rest = rest[end+1:]
		}
		l.buf = l.buf[:copy(l.buf, rest)]
		if len(l.buf) == cap(l.buf) {
			l.buf = l.buf[:0] // so long a line is none of a submission
		}
		if err != nil {
			if len(numbers) > 0 {
				l.came(numbers)
			}
			if err == io.EOF {
				return nil
			}
			return err
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
