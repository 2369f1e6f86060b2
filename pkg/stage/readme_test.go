//go:build unix

package stage_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// TestReadmeProgram builds and runs the program that README.md shows.
func TestReadmeProgram(t *testing.T) {
	const path = "examples/receipts"
	code, err := os.ReadFile(path + "/main.go")
	readme, err2 := os.ReadFile("README.md")
	if err != nil || err2 != nil || !strings.Contains(string(readme), "```go\n"+string(code)+"```\n") {
		t.Fatalf("README.md does not show %s/main.go as it is (%v, %v)", path, err, err2)
	}
	program := filepath.Join(t.TempDir(), "receipts")
	if out, err := exec.Command("go", "build", "-o", program, "./"+path).CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		c := stagetest.Client(t, o)
		cmd := exec.Command(program, o.Addr)
		cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
		stagetest.OK(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		stagetest.Eventually(t, "the stage adopts", func() bool {
			return c.Exists(t.Context(), "orders:adopter").Val() == 1
		})
		length := func(key string) func() bool {
			return func() bool { return c.XLen(t.Context(), key).Val() == 1 }
		}
		for _, order := range []string{`{"Cents":450}`, `{"Cents":0}`} {
			stagetest.OK(t, c.Publish(t.Context(), "orders", order).Err())
		}
		stagetest.Eventually(t, "a receipt", length("receipts"))
		stagetest.Eventually(t, "a dead letter", length("orders:dead"))
		entries, err := c.XRange(t.Context(), "receipts", "-", "+").Result()
		if err != nil || !strings.Contains(entries[0].Values["payload"].(string), `"Cents":450`) {
			t.Errorf("receipts has %v, %v", entries, err)
		}
		stagetest.OK(t, cmd.Process.Signal(syscall.SIGTERM))
		if err := cmd.Wait(); err != nil {
			t.Errorf("after SIGTERM: %v", err)
		}
	})
}
