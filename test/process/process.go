//go:build unix

// Package process starts programs for tests, ends them, and starts them again.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// Patience is how long a test waits where stagetest.Eventually does not serve.
const Patience = 60 * time.Second

// Process is a program that a test starts, ends and starts again. Its methods are for one goroutine
// at a time.
type Process struct {
	T     testing.TB
	Name  string
	Path  string
	Args  []string
	Env   []string // all of its environment
	Dir   string
	Group bool // signals go to the processes that it started, too

	// Up is nil once the process does what it is for.
	Up func(context.Context) error

	log   string // file with what it wrote to stdout and stderr, in all its lives
	cmd   *exec.Cmd
	ended chan struct{}
}

// New makes a process that ends with the test and whose folder is a new one. If the test fails, the
// end of its output is shown.
func New(t testing.TB, name, path string, args ...string) *Process {
	t.Helper()
	p := &Process{
		Name: name, T: t, Path: path, Args: args, Dir: t.TempDir(),
		Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir(), "TZ=UTC"},
		Up:  func(context.Context) error { return nil },
	}
	p.log = filepath.Join(p.Dir, "log")
	t.Cleanup(func() {
		if p.Running() || p.Group && p.ended != nil { // of a group, the first may have ended before the others
			p.Kill()
		}
		if t.Failed() {
			t.Logf("the end of %s's output:\n%s", name, Tail(p.Output(), 40))
		}
	})
	return p
}

// Tail is the last n lines of s.
func Tail(s string, n int) string {
	lines := strings.SplitAfter(s, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

// Start starts the process and does not wait for it to be up.
func (p *Process) Start() {
	p.T.Helper()
	if p.Running() {
		p.T.Fatalf("%s is running already", p.Name)
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	stagetest.OK(p.T, err)
	defer log.Close()
	p.cmd = exec.Command(p.Path, p.Args...)
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = p.Dir, p.Env, log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: p.Group}
	if err := p.cmd.Start(); err != nil {
		p.T.Fatalf("start %s: %v", p.Name, err)
	}
	ended := make(chan struct{})
	p.ended = ended
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait() // its exit code is asked for by Wait
		close(ended)
	}(p.cmd)
}

// Ready waits until the process is up.
func (p *Process) Ready() {
	p.T.Helper()
	var last error
	defer func() {
		if last != nil {
			p.T.Logf("%s is not up: %v", p.Name, last)
		}
	}()
	stagetest.Eventually(p.T, p.Name+" is up", func() bool {
		if !p.Running() {
			p.T.Fatalf("%s ended with status %d before it was up", p.Name, p.Wait())
		}
		last = p.Up(p.T.Context())
		return last == nil
	})
}

// Running tells whether it was started and has not ended.
func (p *Process) Running() bool {
	if p.ended == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Stop ends the process as an operator does and waits until it has drained.
func (p *Process) Stop() {
	p.T.Helper()
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(); code != 0 {
		p.T.Errorf("%s ended with status %d after SIGTERM, want 0", p.Name, code)
	}
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill() {
	p.T.Helper()
	p.Signal(syscall.SIGKILL)
	<-p.ended
}

// Restart kills the process and starts it again, without waiting for it to be up.
func (p *Process) Restart() {
	p.T.Helper()
	p.Kill()
	p.Start()
}

// Pause freezes the process until Resume.
func (p *Process) Pause() { p.T.Helper(); p.Signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (p *Process) Resume() { p.T.Helper(); p.Signal(syscall.SIGCONT) }

// Signal sends a signal. One that has ended gets none.
func (p *Process) Signal(s syscall.Signal) {
	p.T.Helper()
	if p.ended == nil {
		p.T.Fatalf("%s was never started", p.Name)
	}
	err := p.cmd.Process.Signal(s)
	if p.Group {
		err = syscall.Kill(-p.cmd.Process.Pid, s)
	}
	if err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, syscall.ESRCH) {
		p.T.Fatalf("%s to %s: %v", s, p.Name, err)
	}
}

// Wait waits for the process to end and returns its exit status, -1 if a signal ended it.
func (p *Process) Wait() int {
	p.T.Helper()
	select {
	case <-p.ended:
	case <-time.After(Patience):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // a Go program shows where it hangs
		<-p.ended
		p.T.Fatalf("waited %s for %s to end", Patience, p.Name)
	}
	return p.cmd.ProcessState.ExitCode()
}

// PID is its process ID, of this life or the last.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Output is what the process wrote so far.
func (p *Process) Output() string {
	b, err := os.ReadFile(p.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.T.Errorf("output of %s: %v", p.Name, err)
	}
	return string(b)
}

// Says waits until the output holds text.
func (p *Process) Says(text string) {
	p.T.Helper()
	p.Compiled(fmt.Sprintf("says %q", text), func() bool { return strings.Contains(p.Output(), text) })
}

// Compiled waits until done is true. It waits ten minutes: a program of make or go run is compiled
// first.
func (p *Process) Compiled(what string, done func() bool) {
	p.T.Helper()
	for end := time.Now().Add(10 * time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if !p.Running() && !done() {
			p.T.Fatalf("%s ended with status %d before it %s", p.Name, p.Wait(), what)
		}
		if time.Now().After(end) {
			p.T.Fatalf("%s runs for ten minutes and never %s", p.Name, what)
		}
	}
}

// Addr is a free loopback address.
func Addr(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", stagetest.FreePort(t))
}

// Run runs a program to its end. Its output is what it writes to stdout and, if it fails, to
// stderr.
func Run(t testing.TB, dir string, env []string, args ...string) (output string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	var out, errs bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if code = cmd.ProcessState.ExitCode(); code != 0 {
		return out.String() + errs.String(), code
	}
	return out.String(), 0
}
