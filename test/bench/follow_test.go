//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// follower reads the lines of a log as they are written. It uses inotify, because polling would
// take CPU time from what is measured.
type follower struct {
	events *os.File // of inotify
	file   *os.File
	lines  *bufio.Reader
	line   []byte // a line whose end has not been written yet
	came   func(numbers []int)
	ended  chan error
}

// follow calls came with the numbers of the submissions whose lines were written, from one
// goroutine, until close.
func follow(path string, came func(numbers []int)) (*follower, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("inotify: %w", err), f.Close())
	}
	l := &follower{events: os.NewFile(uintptr(fd), "inotify"), file: f, lines: bufio.NewReaderSize(f, 1<<16), came: came, ended: make(chan error, 1)}
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY); err != nil {
		return nil, errors.Join(fmt.Errorf("watch %s: %w", path, err), l.events.Close(), f.Close())
	}
	go func() { l.ended <- l.loop() }()
	return l, nil
}

func (l *follower) close() error {
	err := l.events.Close()
	return errors.Join(<-l.ended, err, l.file.Close())
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

// read reads to the end of the log.
func (l *follower) read() error {
	var numbers []int
	for {
		part, err := l.lines.ReadSlice('\n')
		l.line = append(l.line, part...)
		if err == nil {
			if n, ok := numberIn(l.line); ok {
				numbers = append(numbers, n)
			}
			l.line = l.line[:0]
		} else if !errors.Is(err, bufio.ErrBufferFull) {
			if len(numbers) > 0 {
				l.came(numbers)
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// numberIn is the number of the submission that a line of the log is about.
func numberIn(line []byte) (n int, ok bool) {
	_, rest, ok := bytes.Cut(line, []byte(mark))
	if !ok || len(rest) < digits {
		return 0, false
	}
	number, err := strconv.ParseUint(string(rest[:digits]), 10, 63)
	return int(number), err == nil
}
