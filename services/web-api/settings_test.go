package webapi

import (
	"errors"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/config"
)

func TestSettings(t *testing.T) {
	load := func(env map[string]string) (s struct {
		Settings
		Reads
	}, err error) {
		err = config.Load(func(name string) string { return env[name] }, &s)
		return s, err
	}
	s, err := load(nil)
	if err != nil || s.Listen != "127.0.0.1:8000" || s.RateLimit != 60 || s.AddressLimit != 60 || s.StreamLimit != 32 || s.UsersURL != "http://127.0.0.1:8001" || s.WeatherURL != "http://127.0.0.1:8002" {
		t.Errorf("Load of nothing = %+v, %v; want the defaults", s, err)
	}
	s, err = load(map[string]string{
		"RATE_LIMIT": "off", "TRUSTED_PROXIES": "10.1.2.3/8,::1", "TRUSTED_ORIGINS": "https://a.example http://localhost:3000 https://B.example:443/",
	})
	if err != nil || s.RateLimit != 0 || s.AddressLimit != 60 || len(s.TrustedProxies) != 2 || len(s.TrustedOrigins) != 3 {
		t.Errorf("Load = %+v, %v; want no limit per client, two networks and three origins", s, err)
	}
	if got := s.TrustedProxies[0].String(); got != "10.0.0.0/8" {
		t.Errorf("first trusted network = %s; want 10.0.0.0/8", got)
	}
	for origin, want := range map[string]bool{"https://a.example": true, "http://a.example": false, "http://localhost:3000": true, "http://localhost": false, "https://b.example": true, "null": false} {
		if got := s.TrustedOrigins.has(origin); got != want {
			t.Errorf("%q has %s: %v, want %v", s.TrustedOrigins, origin, got, want)
		}
	}
	s, err = load(map[string]string{"RATE_LIMIT": "5", "ADDRESS_LIMIT": "off"})
	if err != nil || s.RateLimit != 5 || s.AddressLimit != 0 {
		t.Errorf("Load = %+v, %v; want 5 a minute and no limit per address", s, err)
	}
	for variable, value := range map[string]string{
		"RATE_LIMIT": "0", "ADDRESS_LIMIT": "-1", "STREAM_LIMIT": "many", "TRUSTED_PROXIES": "10.0.0.0/33",
		"TRUSTED_ORIGINS": "example.com", "LISTEN": "8000", "USERS_URL": "x",
	} {
		_, err := load(map[string]string{variable: value})
		var wrong *config.VariableError
		if !errors.As(err, &wrong) || wrong.Name != variable || !strings.Contains(err.Error(), value) {
			t.Errorf("Load(%s=%s): %v; want an error that names both", variable, value, err)
		}
	}
}
