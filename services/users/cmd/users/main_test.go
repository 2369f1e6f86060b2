package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/services/internal/processtest"
)

// The program as an operator starts it, while its store is not there: it says so and answers.
func TestProgram(t *testing.T) {
	broker := stagetest.Real(t)
	local := func() string { return fmt.Sprintf("127.0.0.1:%d", stagetest.FreePort(t)) }
	env := map[string]string{
		"REDIS_URL": "redis://" + broker.Addr, "MONGO_URL": "mongodb://" + local() + "/?serverSelectionTimeoutMS=100", "USERS_TOKEN": "secret",
		"LISTEN": local(), "ADMIN_LISTEN": local(),
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- service.Start(ctx, nil, func(name string) string { return env[name] }, io.Discard, io.Discard)
	}()
	processtest.Until(t, "http://"+env["ADMIN_LISTEN"]+"/readyz", "users: mongo is away: ", ended)
	processtest.Until(t, "http://"+env["ADMIN_LISTEN"]+"/metrics", `milepost_mongo_pool_connections{state="max"} 10`, ended)
	processtest.Until(t, "http://"+env["LISTEN"]+"/users/ada@example.com", "USERS_TOKEN", ended)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+env["LISTEN"]+"/users/ada@example.com", nil)
	stagetest.OK(t, err)
	r.Header.Set("Authorization", "Bearer secret")
	resp, err := http.DefaultClient.Do(r)
	stagetest.OK(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("GET without a store = %d, Retry-After %q; want 503", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	r.Host = "evil.example"
	if resp, err := http.DefaultClient.Do(r); err != nil || resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("GET of another site's name: %v, %v; want 421", resp, err)
	}
	processtest.Until(t, "http://"+env["ADMIN_LISTEN"]+"/metrics", `milepost_users_reads_total{outcome="tried again",read="history"} 2`, ended)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
