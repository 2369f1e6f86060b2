package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

func environment(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

// TestWrongEnvironment: a wrong value ends the start with its variable, its value and what is
// allowed.
func TestWrongEnvironment(t *testing.T) {
	admin := fmt.Sprintf("127.0.0.1:%d", stagetest.FreePort(t))
	for name, value := range map[string]string{
		"JOURNAL_KEEP": "5m", "TZ": "Mars/Phobos", "SENT_EMAILS": t.TempDir(), "OFFICE_NAME": "Velo\ncity", "REDIS_PORT": "redis",
	} {
		env := map[string]string{"ADMIN_LISTEN": admin, "SENT_EMAILS": filepath.Join(t.TempDir(), "log")}
		env[name] = value
		err := service.Start(t.Context(), nil, environment(env), io.Discard, t.Output())
		if err == nil || !strings.HasPrefix(err.Error(), name+": ") || !strings.Contains(err.Error(), fmt.Sprintf("%q", value)) {
			t.Errorf("%s=%q: %v, want an error that names both", name, value, err)
		}
	}
}

// TestWaitsForAll: neither Redis nor the store is there; the program starts, says what it waits
// for, and stops when told.
func TestWaitsForAll(t *testing.T) {
	nobody := fmt.Sprint(stagetest.FreePort(t))
	admin := fmt.Sprintf("127.0.0.1:%d", stagetest.FreePort(t))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- service.Start(ctx, nil, environment(map[string]string{
			"ADMIN_LISTEN": admin, "SENT_EMAILS": filepath.Join(t.TempDir(), "log"), "REDIS_PORT": nobody, "MONGO_PORT": nobody,
		}), io.Discard, t.Output())
	}()
	stagetest.Eventually(t, "/readyz names both that the program waits for", func() bool {
		resp, err := http.Get("http://" + admin + "/readyz")
		if err != nil {
			return false // not listening yet
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		answer := string(b)
		if err != nil || resp.StatusCode != http.StatusServiceUnavailable || strings.Contains(answer, "email: ok") {
			t.Fatalf("/readyz: %d %q, %v; want 503 without a Redis", resp.StatusCode, answer, err)
		}
		return strings.Contains(answer, "email: ") && strings.Contains(answer, "mongo: mongo is away: ")
	})
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("program ended with %v, want a drain", err)
	}
}
