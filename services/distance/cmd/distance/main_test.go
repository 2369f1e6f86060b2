package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// start runs the program against the Redis at addr. stop ends it and returns its error.
func start(t *testing.T, addr string) (admin string, stop func() error) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	admin = fmt.Sprintf("127.0.0.1:%d", stagetest.FreePort(t))
	vars := map[string]string{"ADMIN_LISTEN": admin, "REDIS_HOST": host, "REDIS_PORT": port, "LEASE": "1s"}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		result <- service.Start(ctx, nil, func(name string) string { return vars[name] }, io.Discard, t.Output())
	}()
	return admin, func() error {
		cancel()
		return <-result
	}
}

// await asks until ok is content with the answer.
func await(t *testing.T, what string, ask func() (string, error), ok func(string) bool) {
	t.Helper()
	var last string
	var err error
	defer func() {
		if err != nil || !ok(last) {
			t.Logf("%s: last answer %q, %v", what, last, err)
		}
	}()
	stagetest.Eventually(t, what, func() bool {
		last, err = ask()
		return err == nil && ok(last)
	})
}

func get(url string) func() (string, error) {
	return func() (string, error) {
		resp, err := http.Get(url)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return fmt.Sprintf("%d %s", resp.StatusCode, b), err
	}
}

// TestProgram publishes to raw_input as another program does: results come on calculated_distance,
// unreadable messages become dead letters, and a program that found no Redis at its start works as
// soon as there is one.
func TestProgram(t *testing.T) {
	server := stagetest.Real(t, stagetest.Durable...)
	server.Kill()
	admin, stop := start(t, server.Addr)
	await(t, "readyz without a Redis", get("http://"+admin+"/readyz"), func(s string) bool { return strings.HasPrefix(s, "503 distance: ") })
	server.Start()
	await(t, "readyz with a Redis", get("http://"+admin+"/readyz"), func(s string) bool { return s == "200 distance: ok\n" })

	rdb := server.Client()
	defer rdb.Close()
	sub := rdb.Subscribe(t.Context(), event.CalculatedDistance)
	defer sub.Close()
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, payload := range []string{
		`{"email":"ada@example.com","lat":91,"long":"0"}`,
		`no JSON`,
		`{"email":"ada@example.com","lat":40.7128,"long":"-74.0060"}`,
	} {
		if err := rdb.Publish(t.Context(), event.RawInput, payload).Err(); err != nil {
			t.Fatal(err)
		}
	}
	want := `{"email":"ada@example.com","distance_from_velocity":5679.936314229341,"lat":"40.7128","long":"-74.0060"}`
	if m, err := sub.ReceiveMessage(t.Context()); err != nil || m.Payload != want {
		t.Errorf("on %s came %v, %v; want %s", event.CalculatedDistance, m, err, want)
	}
	kept, err := rdb.XRange(t.Context(), event.CalculatedDistance, "-", "+").Result()
	if err != nil || len(kept) != 1 || kept[0].Values["payload"] != want {
		t.Errorf("the stream %s holds %v, %v; want one entry with %s", event.CalculatedDistance, kept, err, want)
	}
	await(t, "dead letters", func() (string, error) {
		dead, err := rdb.XRange(t.Context(), event.RawInput+":dead", "-", "+").Result()
		return fmt.Sprint(errorsOf(dead)), err
	}, func(s string) bool {
		return strings.Contains(s, `latitude "91" is not in [-90, 90]`) && strings.Contains(s, "decode payload: ")
	})
	await(t, "metrics", get("http://"+admin+"/metrics"), func(s string) bool {
		return strings.Contains(s, "\nstage_settled_total{outcome=\"forward\",stage=\"distance\"} 1\n") &&
			strings.Contains(s, "\nstage_adopted_total{stage=\"distance\"} 3\n")
	})
	if err := stop(); err != nil {
		t.Errorf("the program ended with %v, want a drain", err)
	}
}

func errorsOf(dead []redis.XMessage) []any {
	var errs []any
	for _, d := range dead {
		errs = append(errs, d.Values["error"])
	}
	return errs
}
