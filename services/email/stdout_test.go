package email

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/pkg/telemetry"
)

// TestMain makes this program an email process when a test starts it again: EMAIL_REDIS names the
// Redis, SENT_EMAILS the log. Its store knows all numbered events.
func TestMain(m *testing.M) {
	addr := os.Getenv("EMAIL_REDIS")
	if addr == "" {
		os.Exit(m.Run())
	}
	if err := runProcess(addr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func runProcess(addr string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	b, err := stage.Open(stage.Options{Redis: &redis.Options{Addr: addr}, Log: log, Lease: time.Second})
	if err != nil {
		return err
	}
	return errors.Join(Run(ctx, Deps{
		Broker: b, Store: &memory{}, Office: "Velocity", Settings: Settings{SentEmails: os.Getenv("SENT_EMAILS")},
		Stdout: os.Stdout, Admin: telemetry.NewAdmin(), Log: log, Tuning: config.Tuning{Adopt: true},
	}), b.Close())
}

// TestStdoutGone: the process goes on writing its log when the reader of its standard output ends.
func TestStdoutGone(t *testing.T) {
	g := newRig(t, stagetest.Real(t).Options())
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "EMAIL_REDIS="+g.redis.Addr, "SENT_EMAILS="+g.path)
	out, err := c.StdoutPipe()
	stagetest.OK(t, err)
	stagetest.OK(t, c.Start())
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	g.publish(0, 1)
	b := make([]byte, 256)
	n, err := io.ReadAtLeast(out, b, 1)
	if err != nil || !strings.Contains(string(b[:n]), lineOf(address(0), "0.0")) {
		t.Fatalf("standard output %q, %v; want the line", b[:n], err)
	}
	stagetest.OK(t, out.Close())
	for to := 2; to < 10; to++ {
		g.publish(to-1, to)
		g.wantLines(0, to)
	}
	if err := errors.Join(c.Process.Signal(syscall.SIGTERM), c.Wait()); err != nil {
		t.Errorf("process ended with %v, want a drain", err)
	}
}
