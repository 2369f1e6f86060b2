package email

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
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
	b, err := stage.Open(stage.Options{Redis: &redis.Options{Addr: addr}, Log: log, Lease: time.Second, KeepEntries: 1 << 20})
	if err != nil {
		return err
	}
	return errors.Join(Run(ctx, Deps{
		Broker: b, Store: &memory{}, Office: "Velocity", Settings: Settings{SentEmails: os.Getenv("SENT_EMAILS")},
		Stdout: os.Stdout, Log: log, Tuning: config.Tuning{Adopt: true},
	}), b.Close())
}

// child prepares an email process.
func (g *rig) child(program string, environment ...string) *exec.Cmd {
	c := exec.Command(program)
	c.Env = append(os.Environ(), append(environment, "EMAIL_REDIS="+g.redis.Addr, "SENT_EMAILS="+g.path)...)
	return c
}

// balance starts a last process, waits until all is settled and compares events, lines and news.
func (g *rig) balance(events int) {
	t := g.t
	t.Helper()
	c := g.child(os.Args[0])
	var stderr strings.Builder
	c.Stderr = &stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Kill() }() // in case the test fails before it ends
	dead := g.settled()
	if err := errors.Join(c.Process.Signal(syscall.SIGTERM), c.Wait()); err != nil {
		t.Errorf("last process: %v\n%s", err, &stderr)
	}
	if len(dead) != 0 {
		t.Errorf("%d dead letters, want none; the first: %+v", len(dead), dead[0])
	}
	g.wantLines(0, events)
	g.wantNews(events)
}

// TestKillPoints ends the process with SIGKILL at each point of the stage and of the journal.
func TestKillPoints(t *testing.T) {
	const events = 4 * maxBatch // so that there is work left for the second process of a plan
	program := filepath.Join(t.TempDir(), "email")
	if out, err := exec.Command("go", "test", "-tags", "killpoints", "-c", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go test -tags killpoints -c: %v\n%s", err, out)
	}
	for _, plan := range [][]string{
		{"stage.before-handler:2"}, {"stage.after-handler:1"}, {"stage.after-handler:2"}, {"stage.after-settle:1"},
		{"journal.before-record:2"}, {"journal.mid-record:2"}, {"journal.after-record:2"},
		{"journal.mid-line:2"}, {"journal.after-line:2"}, {"journal.after-mark:2"},
		{"journal.mid-line:1", "journal.mid-recovery:1"},
		{"stage.after-handler:2", "journal.mid-line:1"},
	} {
		t.Run(strings.Join(plan, " "), func(t *testing.T) {
			g := newRig(t, stagetest.Real(t).Options())
			g.publish(0, events)
			for _, kill := range plan {
				c := g.child(program, "MILEPOST_KILL="+kill)
				if out, _ := c.CombinedOutput(); c.ProcessState.ExitCode() != -1 {
					t.Fatalf("process to be killed at %s ended with %v\n%s", kill, c.ProcessState, out)
				}
			}
			g.balance(events)
		})
	}
}

// TestKilledUnderLoad kills processes at random moments, each with a standby waiting, while events
// keep coming.
func TestKilledUnderLoad(t *testing.T) {
	const kills = 12
	g := newRig(t, stagetest.Real(t).Options())
	enough, loaded := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for ; ; n += 20 {
			select {
			case <-enough:
				loaded <- n
				return
			default:
				g.publish(n, n+20)
			}
		}
	}()
	var running [2]*exec.Cmd
	start := func(i int) {
		running[i] = g.child(os.Args[0])
		if err := running[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	kill := func(i int) {
		_ = running[i].Process.Kill()
		_ = running[i].Wait()
	}
	defer func() { kill(0); kill(1) }()
	start(0)
	start(1)
	size := func() int64 {
		fi, err := os.Stat(g.path)
		if err != nil {
			return 0
		}
		return fi.Size()
	}
	pending := 0
	for n := range kills {
		until := size() + 1 + rand.Int64N(20_000)
		stagetest.Eventually(t, "some more lines", func() bool { return size() >= until })
		kill(n % 2)
		p, err := g.rdb.XPending(t.Context(), "user:email", "email").Result()
		if err != nil {
			t.Fatal(err)
		}
		if p.Count > 0 {
			pending++
		}
		start(n % 2)
	}
	close(enough)
	events := <-loaded
	kill(0)
	kill(1)
	g.balance(events)
	t.Logf("%d events, %d kills, %d of them with entries pending", events, kills, pending)
	if pending == 0 {
		t.Error("no kill met pending entries")
	}
}

// TestStdoutGone: the process goes on writing its log when the reader of its standard output ends.
func TestStdoutGone(t *testing.T) {
	g := newRig(t, stagetest.Real(t).Options())
	c := g.child(os.Args[0])
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	g.publish(0, 1)
	b := make([]byte, 256)
	n, err := io.ReadAtLeast(out, b, 1)
	if err != nil || !strings.Contains(string(b[:n]), lineOf(address(0), "0.0")) {
		t.Fatalf("standard output %q, %v; want the line", b[:n], err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	for to := 2; to < 10; to++ {
		g.publish(to-1, to)
		g.wantLines(0, to)
	}
	if err := errors.Join(c.Process.Signal(syscall.SIGTERM), c.Wait()); err != nil {
		t.Errorf("process ended with %v, want a drain", err)
	}
}
