package config_test

import (
	"testing"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

func TestHosts(t *testing.T) {
	for _, tc := range []struct {
		setting, host string
		allowed       bool
	}{
		{"", "localhost:8000", true},
		{"", "LOCALHOST", true},
		{"", "app.localhost.", true},
		{"", "127.0.0.1:8000", true},
		{"", "[::1]:8000", true},
		{"", "[::1]", true},
		{"", "10.1.2.3", true},
		{"", "", true},
		{"", "example.com", false},
		{"", "users:8001", false},
		{"", "localhost.evil.example", false},
		{"", "127.0.0.1.evil.example", false},
		{"", ":80", false},
		{"", "a b", false},
		{"example.com, users", "EXAMPLE.com:443", true},
		{"example.com, users", "users:8001", true},
		{"example.com", "a.example.com", false},
		{".example.com", "a.b.example.com", true},
		{".example.com", "example.com", false},
		{"*.example.com", "a.example.com", true},
		{"*.example.com", "evilexample.com", false},
		{"münchen.example:80 10.0.0.1", "münchen.example", true},
		{"*", "anything.example", true},
	} {
		var h config.Hosts
		stagetest.OK(t, h.UnmarshalText([]byte(tc.setting)))
		if got := h.Allow(tc.host); got != tc.allowed {
			t.Errorf("ALLOWED_HOSTS=%s allows %q: %v, want %v", tc.setting, tc.host, got, tc.allowed)
		}
	}
	for _, wrong := range []string{"https://example.com", "a/b", "ex*mple.com", "a..b", "."} {
		var h config.Hosts
		if err := h.UnmarshalText([]byte(wrong)); err == nil {
			t.Errorf("ALLOWED_HOSTS=%s is taken as %q", wrong, h)
		}
	}
}
