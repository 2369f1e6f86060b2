//go:build linux

package bench

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// program is a program that is started and stopped again and again.
type program struct {
	name, path string
	args, env  []string
	dir        string                      // its working directory, with its output
	up         func(context.Context) error // nil once it is ready

	cmd   *exec.Cmd
	ended chan struct{}
}

// patience is how long a program may take to start, and to drain.
const patience = 60 * time.Second

// start starts the programs that do not run, and waits until all are up.
func start(b testing.TB, all ...*program) {
	b.Helper()
	for _, p := range all {
		if !p.running() {
			p.launch(b)
		}
	}
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	for _, p := range all {
		for err := p.up(ctx); err != nil; err = p.up(ctx) {
			if !p.running() || ctx.Err() != nil {
				b.Fatalf("%s is not up: %v", p.name, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

func (p *program) launch(b testing.TB) {
	b.Helper()
	out, err := os.OpenFile(p.output(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	p.cmd = exec.Command(p.path, p.args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = p.dir, out, out
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TZ=UTC"}, p.env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // however this ends, it ends with it
	if err := p.cmd.Start(); err != nil {
		b.Fatalf("start %s: %v; `make bench` builds it into bin/", p.name, err)
	}
	p.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait() // cmd has its status
		close(ended)
	}(p.cmd, p.ended)
}

func (p *program) output() string { return filepath.Join(p.dir, p.name+".out") }

func (p *program) running() bool {
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

// stop lets the programs drain, one after the other, and waits for their end.
func stop(b testing.TB, all ...*program) {
	b.Helper()
	for _, p := range all {
		if !p.running() {
			continue
		}
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may just have ended
		select {
		case <-p.ended:
		case <-time.After(patience):
			_ = p.cmd.Process.Kill()
			<-p.ended
		}
		state := p.cmd.ProcessState
		if w, ok := state.Sys().(syscall.WaitStatus); !state.Success() && !(ok && w.Signal() == syscall.SIGTERM) { // which ends a program without a drain
			b.Errorf("after SIGTERM %s ended with %s", p.name, state)
		}
	}
}

// ready asks a program's admin port.
func ready(admin string) func(context.Context) error {
	return func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", nil)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("readyz: %s", answer.Status)
		}
		return nil
	}
}

// listening asks only whether a port accepts connections.
func listening(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return c.Close()
	}
}
