package program_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/milepost/milepost/pkg/program"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/pkg/telemetry"
)

type small struct {
	Tries int `env:"TRIES" envDefault:"3" min:"1" help:"how often to try"`
}

// TestMain is also a program of its own, for the tests that need a process to signal.
func TestMain(m *testing.M) {
	if os.Getenv("MILEPOST_TEST_PROGRAM") == "" {
		os.Exit(m.Run())
	}
	program.Program[small]{
		Name:  "sample",
		Admin: "127.0.0.1:0",
		Run: func(ctx context.Context, cfg small, p *program.Process) error {
			fmt.Fprintln(p.Stdout, "working")
			<-ctx.Done()
			fmt.Fprintln(p.Stdout, "draining")
			switch os.Getenv("MILEPOST_TEST_PROGRAM") {
			case "fail":
				return errors.New("first line\nsecond line")
			case "hang":
				select {}
			}
			return nil
		},
	}.Main()
}

// start runs p until the test ends or the returned function is called, which returns the program's
// error. Its admin port is at the returned URL.
func start(t *testing.T, vars map[string]string, run func(context.Context, small, *program.Process) error) (url string, stop func() error) {
	t.Helper()
	addr := fmt.Sprintf("127.0.0.1:%d", stagetest.FreePort(t))
	ctx, cancel := context.WithCancel(t.Context())
	env := map[string]string{"ADMIN_LISTEN": addr}
	for k, v := range vars {
		env[k] = v
	}
	started, result := make(chan struct{}), make(chan error, 1)
	p := program.Program[small]{Name: "sample", Run: func(ctx context.Context, cfg small, p *program.Process) error {
		close(started)
		return run(ctx, cfg, p)
	}}
	go func() { result <- p.Start(ctx, nil, environment(env), io.Discard, t.Output()) }()
	select {
	case <-started:
	case err := <-result:
		t.Fatalf("the program did not start: %v", err)
	}
	stop = func() error {
		cancel()
		return <-result
	}
	return "http://" + addr, stop
}

// environment looks variables up in vars.
func environment(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	stagetest.OK(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	stagetest.OK(t, err)
	return resp.StatusCode, string(body)
}

func TestProgram(t *testing.T) {
	admins, finish := make(chan *telemetry.Admin, 1), make(chan struct{})
	url, stop := start(t, map[string]string{"TRIES": "5", "ALLOWED_HOSTS": "shop.example"}, func(ctx context.Context, cfg small, p *program.Process) error {
		if cfg.Tries != 5 {
			return fmt.Errorf("TRIES is %d, want 5", cfg.Tries)
		}
		admins <- p.Admin
		<-ctx.Done()
		<-finish
		return nil
	})
	admin := <-admins
	want := func(path string, status int, contains string) {
		t.Helper()
		if got, body := get(t, url+path); got != status || !strings.Contains(body, contains) {
			t.Errorf("GET %s: %d %q, want %d with %q", path, got, body, status, contains)
		}
	}
	want("/healthz", 200, "ok\n")
	want("/readyz", 503, "starting\n")
	waits := errors.New("redis is away: dial\r\nrefused")
	admin.Watch("distance", func() error { return waits })
	admin.WatchNote("email", func() (string, error) { return "standby", nil })
	want("/readyz", 503, "distance: redis is away: dial  refused\nemail: standby\n")
	want("/metrics", 200, `milepost_ready{check="distance"} 0`)
	admin.Watch("distance", func() error { return nil })
	want("/readyz", 200, "email: standby\ndistance: ok\n")
	want("/metrics", 200, `milepost_ready{check="distance"} 1`)
	want("/metrics", 200, `milepost_ready{check="email"} 1`)
	want("/metrics", 200, "go_goroutines")
	want("/debug/pprof/", 404, "")
	for _, path := range []string{"/", "/status", "/status.json"} {
		want(path, 404, "STATUS_PAGE=on")
	}
	for host, status := range map[string]int{"localhost:1": 200, "10.1.2.3:9100": 200, "[fd00::1]": 200, "Shop.Example.:80": 200, "evil.example": 421, "sub.shop.example": 421} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/healthz", nil)
		stagetest.OK(t, err)
		r.Host = host
		if resp, err := http.DefaultClient.Do(r); err != nil || resp.StatusCode != status {
			t.Errorf("GET /healthz of %s: %v, %v; want %d", host, resp, err, status)
		}
	}
	resp, err := http.Post(url+"/readyz", "text/plain", nil)
	if err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST /readyz: %v, %v; want 405", resp, err)
	}

	// A stopping program is not ready, but can still be asked while it drains.
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	stagetest.Eventually(t, "/readyz says stopping", func() bool {
		status, body := get(t, url+"/readyz")
		return status == 503 && strings.HasSuffix(body, "stopping\n")
	})
	want("/healthz", 200, "ok\n")
	close(finish)
	if err := <-stopped; err != nil {
		t.Errorf("the program ended with %v", err)
	}
	if _, err := http.Get(url + "/healthz"); !errors.Is(err, syscall.ECONNREFUSED) && runtime.GOOS != "windows" {
		t.Errorf("the admin port after the end: %v, want it closed", err)
	}
}

func TestProfiles(t *testing.T) {
	url, stop := start(t, map[string]string{"PPROF": "on"}, func(ctx context.Context, _ small, _ *program.Process) error {
		<-ctx.Done()
		return nil
	})
	if status, _ := get(t, url+"/debug/pprof/goroutine?debug=1"); status != 200 {
		t.Errorf("a profile with PPROF=on: %d, want 200", status)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestCommandLine(t *testing.T) {
	p := program.Program[small]{
		Name: "sample", Does: "shows what a program does", Admin: "127.0.0.1:1",
		Run: func(context.Context, small, *program.Process) error { return errors.New("ran") },
		Commands: map[string]program.Command{"store": {Does: "runs the store alone", Run: func(_ context.Context, args []string, _ func(string) string, out, _ io.Writer) error {
			_, err := fmt.Fprint(out, "store ", args)
			return err
		}}},
	}
	for name, tc := range map[string]struct {
		args  []string
		says  string
		fails error
	}{
		"version":      {args: []string{"--version"}, says: "sample "},
		"help":         {args: []string{"--help"}, says: "sample shows what a program does.\n\nUsage:\n  sample\n  sample store        runs the store alone\n"},
		"variables":    {args: []string{"-h"}, says: "  TRIES            how often to try (default 3)\n"},
		"admin":        {args: []string{"help"}, says: "  ADMIN_LISTEN     address of /healthz, /readyz and /metrics (default 127.0.0.1:1)\n"},
		"subcommand":   {args: []string{"store", "--data", "x"}, says: "store [--data x]"},
		"unknown":      {args: []string{"--hepl"}, fails: program.ErrUsage},
		"one too many": {args: []string{"healthcheck", "x"}, fails: program.ErrUsage},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			err := p.Start(t.Context(), tc.args, environment(nil), &out, io.Discard)
			if !errors.Is(err, tc.fails) || !strings.Contains(out.String(), tc.says) {
				t.Errorf("Start(%q) wrote %q and returned %v; want %q, %v", tc.args, out.String(), err, tc.says, tc.fails)
			}
		})
	}
}

func TestHealthcheck(t *testing.T) {
	admins := make(chan *telemetry.Admin, 1)
	url, stop := start(t, nil, func(ctx context.Context, _ small, p *program.Process) error {
		admins <- p.Admin
		<-ctx.Done()
		return nil
	})
	admin := <-admins
	port := url[strings.LastIndexByte(url, ':'):]
	check := func(listen string) (string, error) {
		var out bytes.Buffer
		p := program.Program[small]{Name: "sample"}
		err := p.Start(t.Context(), []string{"healthcheck"}, environment(map[string]string{"ADMIN_LISTEN": listen, "TRIES": "x"}), &out, io.Discard)
		return out.String(), err
	}
	if out, err := check("127.0.0.1" + port); err == nil || out != "starting\n" {
		t.Errorf("healthcheck of a starting program: %q, %v; want an error", out, err)
	}
	admin.Watch("sample", func() error { return nil })
	for _, listen := range []string{"127.0.0.1" + port, port, "0.0.0.0" + port} {
		if out, err := check(listen); err != nil || out != "sample: ok\n" {
			t.Errorf("healthcheck with ADMIN_LISTEN=%s: %q, %v", listen, out, err)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := check("127.0.0.1" + port); err == nil {
		t.Error("healthcheck of a stopped program succeeds")
	}
}

// TestSignals runs the test binary as a program and stops it as an operator does.
func TestSignals(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no signals to send to another process")
	}
	for name, tc := range map[string]struct {
		mode    string
		signals int
		says    string
		code    int
	}{
		"drain":         {mode: "drain", signals: 1, code: 0},
		"drain fails":   {mode: "fail", signals: 1, code: 1, says: "sample: first line\nsample: second line\n"},
		"second signal": {mode: "hang", signals: 2, code: -1},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), "MILEPOST_TEST_PROGRAM="+tc.mode, "ADMIN_LISTEN=127.0.0.1:0", "LOG_LEVEL=error")
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			stdout, err := cmd.StdoutPipe()
			stagetest.OK(t, err)
			stagetest.OK(t, cmd.Start())
			lines := bufio.NewScanner(stdout)
			for _, want := range []string{"working", "draining"}[:tc.signals] {
				if !lines.Scan() || lines.Text() != want {
					t.Fatalf("the program said %q, want %q; stderr: %s", lines.Text(), want, &stderr)
				}
				stagetest.OK(t, cmd.Process.Signal(syscall.SIGTERM))
			}
			for lines.Scan() { // to the end, or Wait may close the pipe early
			}
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != tc.code || stderr.String() != tc.says {
				t.Errorf("exit code %d, stderr %q; want %d, %q", code, &stderr, tc.code, tc.says)
			}
		})
	}
}
