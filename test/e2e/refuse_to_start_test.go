//go:build unix

package e2e

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/test/process"
)

// refuses starts a program, which must end with status 1 and say why. It returns the output.
func refuses(t *testing.T, name, says string, env ...string) string {
	t.Helper()
	s := process.New(t, name, filepath.Join(builds.programs(t, ""), name))
	s.Env = append(s.Env, env...)
	s.Start()
	code, out := s.Wait(), s.Output()
	if code != 1 || !strings.Contains(out, says) {
		t.Errorf("%s with %q: status %d and output\n%swant status 1 and %q", name, env, code, out, says)
	}
	if strings.Contains(out, "geheim") {
		t.Errorf("%s with %q shows the password: %s", name, env, out)
	}
	return out
}

// TestWrongVariable starts each program with variables of which one has a wrong value.
func TestWrongVariable(t *testing.T) {
	t.Parallel()
	every := append([]string{"standalone"}, all...)
	for _, tc := range []struct {
		programs        []string
		variable, value string
		says            string
	}{
		{every, "ADMIN_LISTEN", "9100", `ADMIN_LISTEN: "9100" is not an address`},
		{every, "LOG_LEVEL", "loud", `LOG_LEVEL: "loud" is not one of`},
		{every, "LEASE", "soon", `LEASE: "soon" is not a duration`},
		{every, "MAX_BACKLOG", "0", `MAX_BACKLOG: "0" is not a whole number of at least 1`},
		{every, "REDIS_URL", "http://user:geheim@host", `REDIS_URL: "http://user:****@host" is not a Redis URL`},
		{all, "REDIS_TLS_CERT", "/etc/hostname", "needs REDIS_TLS_KEY, which is not set"},
		{all, "REDIS_PORT", "redis", `REDIS_PORT: "redis" is not a port (1 to 65535)`},
		{[]string{"standalone", "db", "email"}, "MONGO_URL", "postgres://user:geheim@host/", `MONGO_URL: "postgres://user:****@host/" is not a MongoDB URL`},
		{[]string{"db", "email"}, "MONGO_PORT", "70000", `MONGO_PORT: "70000" is not a port`},
		{[]string{"standalone", "distance", "web-api"}, "OFFICE_LAT", "91", `OFFICE_LAT: "91" is not a number from -90 to 90`},
		{[]string{"standalone", "web-api"}, "RATE_LIMIT", "some", `RATE_LIMIT: "some" is not a whole number of at least 1, or off`},
		{[]string{"standalone", "web-api"}, "TRUSTED_PROXIES", "everyone", `TRUSTED_PROXIES: "everyone" is not a list`},
		{[]string{"standalone", "email"}, "TZ", "Middle/Earth", `TZ: "Middle/Earth"`},
		{[]string{"standalone", "email"}, "JOURNAL_KEEP", "1s", `JOURNAL_KEEP: "1s" is not a duration of at least 1h`},
	} {
		for _, name := range tc.programs {
			if out := refuses(t, name, tc.says, tc.variable+"="+tc.value); strings.Count(out, "\n") != 1 {
				t.Errorf("%s with %s=%s says more than one line:\n%s", name, tc.variable, tc.value, out)
			}
		}
	}
}

// TestCannotStart starts programs that find out only then that they cannot work.
func TestCannotStart(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	stagetest.OK(t, err)
	defer l.Close()
	taken := l.Addr().String()
	for _, tc := range []struct {
		programs  []string
		env, says string
	}{
		{all[3:], "SENT_EMAILS=/", `SENT_EMAILS: "/"`},
		{all[3:], "OFFICE_NAME=Velo\ncity", `OFFICE_NAME: "Velo\ncity"`},
		{all[3:], "EMAIL_WRITER=2", "EMAIL_WRITER: 2 must be less than EMAIL_WRITERS, 1"},
		{all, "REDIS_URL=redis://127.0.0.1:1/1", "database 1 of Redis needs a key prefix (KEY_PREFIX)"},
		{all, "ADMIN_LISTEN=" + taken, "ADMIN_LISTEN: " + taken + " is in use"},
		{all[:1], "LISTEN=" + taken, "LISTEN: " + taken + " is in use"},
	} {
		for _, name := range tc.programs {
			refuses(t, name, tc.says, "ADMIN_LISTEN=127.0.0.1:0", "LISTEN=127.0.0.1:0", tc.env)
		}
	}
}
