//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

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

// start starts the program and waits until it is up.
func (p *program) start(ctx context.Context) error {
	if err := p.launch(); err != nil {
		return err
	}
	return p.wait(ctx)
}

func (p *program) launch() error {
	out, err := os.OpenFile(p.output(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	p.cmd = exec.Command(p.path, p.args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = p.dir, out, out
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TZ=UTC"}, p.env...)
	// Ctrl-C reaches the bench only, which stops its programs. However it ends, they end with
	// it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait() // cmd has its status
		close(ended)
	}(p.cmd, p.ended)
	return nil
}

func (p *program) output() string { return filepath.Join(p.dir, p.name+".out") }

// wait waits until the program is up.
func (p *program) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := p.up(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended at once, %s: %s", p.name, p.cmd.ProcessState, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not up: %w: %s", p.name, err, p.tail())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (p *program) tail() string {
	b, err := os.ReadFile(p.output())
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-2000):]))
}

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

// stop lets the program drain and waits for its end.
func (p *program) stop() error {
	if !p.running() {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may just have ended
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("%s did not end within %s of SIGTERM", p.name, patience)
	}
	state := p.cmd.ProcessState
	if w, ok := state.Sys().(syscall.WaitStatus); state.Success() || ok && w.Signal() == syscall.SIGTERM {
		return nil // the signal ends a program without a drain
	}
	return fmt.Errorf("%s ended with %s: %s", p.name, state, p.tail())
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

// freeAddress is a free loopback address below the ports that systems give to clients.
func freeAddress() (string, error) {
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(10_000))
		if l, err := net.Listen("tcp", address); err == nil {
			return address, l.Close()
		}
	}
	return "", errors.New("no free port from 10000 to 19999")
}
