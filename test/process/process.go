//go:build unix

package e2e

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

// patience is how long a test waits where stagetest.Eventually does not serve.
const patience = 60 * time.Second

// process is a program that a test starts, ends and starts again. Its methods are for one goroutine
// at a time.
type process struct {
	name  string
	t     testing.TB
	path  string
	args  []string
	env   []string // all of its environment
	dir   string
	group bool   // signals go to the processes that it started, too
	log   string // file with what it wrote to stdout and stderr, in all its lives

	// up is nil once the process does what it is for.
	up func(context.Context) error

	cmd   *exec.Cmd
	ended chan struct{}
}

// newProcess makes a process that ends with the test. If the test fails, the end of its output is
// shown.
func newProcess(t testing.TB, name, path string, args ...string) *process {
	t.Helper()
	p := &process{
		name: name, t: t, path: path, args: args, dir: t.TempDir(),
		env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir(), "TZ=UTC"},
		up:  func(context.Context) error { return nil },
	}
	p.log = filepath.Join(p.dir, "log")
	t.Cleanup(func() {
		if p.Running() || p.group && p.ended != nil { // of a group, the first may have ended before the others
			p.Kill()
		}
		if t.Failed() {
			t.Logf("the end of %s's output:\n%s", name, tail(p.Output(), 40))
		}
	})
	return p
}

// tail is the last n lines of s.
func tail(s string, n int) string {
	lines := strings.SplitAfter(s, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

// Start starts the process and does not wait for it to be up.
func (p *process) Start() {
	p.t.Helper()
	if p.Running() {
		p.t.Fatalf("%s is running already", p.name)
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	stagetest.OK(p.t, err)
	defer log.Close()
	p.cmd = exec.Command(p.path, p.args...)
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = p.dir, p.env, log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: p.group}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("start %s: %v", p.name, err)
	}
	ended := make(chan struct{})
	p.ended = ended
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait() // its exit code is asked for by Wait
		close(ended)
	}(p.cmd)
}

// Ready waits until the process is up.
func (p *process) Ready() {
	p.t.Helper()
	var last error
	defer func() {
		if last != nil {
			p.t.Logf("%s is not up: %v", p.name, last)
		}
	}()
	stagetest.Eventually(p.t, p.name+" is up", func() bool {
		if !p.Running() {
			p.t.Fatalf("%s ended with status %d before it was up", p.name, p.Wait())
		}
		last = p.up(p.t.Context())
		return last == nil
	})
}

// Running tells whether it was started and has not ended.
func (p *process) Running() bool {
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
func (p *process) Stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.Wait(); code != 0 {
		p.t.Errorf("%s ended with status %d after SIGTERM, want 0", p.name, code)
	}
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *process) Kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// Restart kills the process and starts it again, without waiting for it to be up.
func (p *process) Restart() {
	p.t.Helper()
	p.Kill()
	p.Start()
}

// Pause freezes the process until Resume.
func (p *process) Pause() { p.t.Helper(); p.signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (p *process) Resume() { p.t.Helper(); p.signal(syscall.SIGCONT) }

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if p.ended == nil {
		p.t.Fatalf("%s was never started", p.name)
	}
	err := p.cmd.Process.Signal(s)
	if p.group {
		err = syscall.Kill(-p.cmd.Process.Pid, s)
	}
	if err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, syscall.ESRCH) {
		p.t.Fatalf("%s to %s: %v", s, p.name, err)
	}
}

// Wait waits for the process to end and returns its exit status, -1 if a signal ended it.
func (p *process) Wait() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // a Go program shows where it hangs
		<-p.ended
		p.t.Fatalf("waited %s for %s to end", patience, p.name)
	}
	return p.cmd.ProcessState.ExitCode()
}

// PID is its process ID, of this life or the last.
func (p *process) PID() int { return p.cmd.Process.Pid }

// Output is what the process wrote so far.
func (p *process) Output() string {
	b, err := os.ReadFile(p.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Errorf("output of %s: %v", p.name, err)
	}
	return string(b)
}

// says waits until the output holds text.
func (p *process) says(text string) {
	p.t.Helper()
	stagetest.Eventually(p.t, fmt.Sprintf("%s says %q", p.name, text), func() bool { return strings.Contains(p.Output(), text) })
}

// freeAddr is a free loopback address.
func freeAddr(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", stagetest.FreePort(t))
}

// run runs a program to its end. Its output is what it writes to stdout and, if it fails, to
// stderr.
func run(t testing.TB, dir string, env []string, args ...string) (output string, code int) {
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
