//go:build linux

package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/milepost/milepost/pkg/stage/stagetest"
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

// Lines that are written in pieces, and longer than a read, are found once.
func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w, err := os.Create(path)
	stagetest.OK(t, err)
	defer w.Close()
	c := newClient(t, "", path)
	c.sent = make([]int64, 7)
	for _, piece := range []struct {
		text             string
		written, doubled int // so far
	}{
		{"x bench-0000000001@example.com y\nbench-00000", 1, 0},
		{"00002@example.com\n", 2, 0},
		{"bench-12@example.com\nbench-00000x0003@\n\nbench-0000000003@\n", 3, 0},
		{strings.Repeat("bench-0000000004@example.com\n", 5000), 4, 4999},
		{strings.Repeat("x", 300_000) + "\nbench-0000000006@example.com\n", 5, 4999},
		{"bench-0000000007@example.com\nbench-0000000005@example.com", 5, 5000}, // of one that was not sent; and no line yet
	} {
		_, err := w.WriteString(piece.text)
		stagetest.OK(t, err)
		stagetest.Eventually(t, fmt.Sprintf("%.40q: %d lines, %d doubled", piece.text, piece.written, piece.doubled), func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.written == piece.written && c.doubled == piece.doubled
		})
	}
}
