package webapi

import (
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/stage/stagetest"
)

func TestClientAddress(t *testing.T) {
	var trusted Networks
	var log strings.Builder
	stagetest.OK(t, trusted.UnmarshalText([]byte("10.0.0.0/8, 2001:db8::/32,192.0.2.1")))
	for name, tc := range map[string]struct {
		peer      string
		forwarded []string
		want      string
	}{
		"no proxy":                      {"203.0.113.7:1", nil, "203.0.113.7"},
		"a client that claims to proxy": {"203.0.113.7:1", []string{"198.51.100.1"}, "203.0.113.7"},
		"one proxy":                     {"10.1.2.3:1", []string{"198.51.100.1"}, "198.51.100.1"},
		"what the client wrote before":  {"10.1.2.3:1", []string{"1.1.1.1, 198.51.100.1"}, "198.51.100.1"},
		"two proxies":                   {"10.1.2.3:1", []string{"1.1.1.1, 198.51.100.1, 10.9.9.9"}, "198.51.100.1"},
		"headers of each proxy":         {"192.0.2.1:1", []string{"198.51.100.1", "10.9.9.9"}, "198.51.100.1"},
		"a proxy that says nothing":     {"10.1.2.3:1", nil, "10.1.2.3"},
		"rubbish":                       {"10.1.2.3:1", []string{"198.51.100.1, nonsense"}, "10.1.2.3"},
		"IPv6 with a port":              {"10.1.2.3:1", []string{"[2001:db9::1]:44311"}, "2001:db9::1"},
		"IPv6 in brackets":              {"10.1.2.3:1", []string{"[2001:db9::1]"}, "2001:db9::1"},
		"IPv4 with a port":              {"10.1.2.3:1", []string{"198.51.100.1:5678"}, "198.51.100.1"},
		"Forwarded":                     {"10.1.2.3:1", []string{"Forwarded: for=1.1.1.1, For=\"[2001:db9::1]:4711\";proto=https;by=10.1.1.1, for=10.9.9.9"}, "2001:db9::1"},
		"Forwarded, unknown":            {"10.1.2.3:1", []string{"Forwarded: for=unknown"}, "10.1.2.3"},
		"Forwarded, quoted separators":  {"10.1.2.3:1", []string{`Forwarded: host="a,b;for=1.1.1.1\"";for=198.51.100.1`}, "198.51.100.1"},
		"both headers":                  {"10.1.2.3:1", []string{"198.51.100.1", "Forwarded: for=1.1.1.1"}, "198.51.100.1"},
		"only proxies":                  {"10.1.2.3:1", []string{"10.1.1.1"}, "10.1.1.1"},
		"IPv4 in IPv6":                  {"[::ffff:10.1.2.3]:1", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		"IPv6":                          {"[2001:db8::1]:1", []string{"2001:db9::5"}, "2001:db9::5"},
		"a zone":                        {"[fe80::1%eth0]:1", nil, "fe80::1"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/distance", nil)
			r.RemoteAddr = tc.peer
			for _, f := range tc.forwarded {
				name, value, ok := strings.Cut(f, ": ")
				if !ok {
					name, value = "X-Forwarded-For", f
				}
				r.Header.Add(name, value)
			}
			p := proxies{trusted: trusted, log: slog.New(slog.NewTextHandler(&log, nil))}
			for range 2 {
				if got := p.client(r); got != netip.MustParseAddr(tc.want) {
					t.Errorf("client(%s, %q) = %v; want %s", tc.peer, tc.forwarded, got, tc.want)
				}
			}
		})
	}
	if n := strings.Count(log.String(), "cannot be read"); n != 2 {
		t.Errorf("two unreadable addresses, each twice, are warned of %d times, want each once: %s", n, &log)
	}
}

func TestClientName(t *testing.T) {
	for addr, want := range map[string]string{
		"203.0.113.7":           "203.0.113.7",
		"2001:db8:1:2:3:4:5:6":  "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff::":   "2001:db8:1:2::/64",
		"2001:db8:1:3:ffff::":   "2001:db8:1:3::/64",
		"::1":                   "::/64",
		"fe80::aaaa:bbbb:cc:dd": "fe80::/64",
	} {
		if got := clientName(netip.MustParseAddr(addr)); got != want {
			t.Errorf("clientName(%s) = %q; want %q", addr, got, want)
		}
	}
}
