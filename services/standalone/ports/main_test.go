package main

import (
	"net"
	"strings"
	"testing"
)

func TestTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	env := map[string]string{
		"LISTEN": l.Addr().String(), "ADMIN_LISTEN": "127.0.0.1:0", "EMBEDDED_MONGO": "127.0.0.1:0",
		"EMBEDDED_REDIS": l.Addr().String(), "REDIS_URL": "redis://elsewhere",
	}
	getenv := func(name string) string { return env[name] }
	if errs := taken(getenv); len(errs) != 1 || !strings.Contains(errs[0].Error(), "LISTEN: ") || !strings.Contains(errs[0].Error(), "already running") {
		t.Errorf("taken = %v, want LISTEN alone", errs)
	}
	delete(env, "REDIS_URL")
	if errs := taken(getenv); len(errs) != 2 {
		t.Errorf("taken = %v, want LISTEN and EMBEDDED_REDIS", errs)
	}
}
