//go:build unix

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/event"
)

// TestPromiseBadEntry puts garbage on every channel, from redis-cli as well as through the runtime,
// and finds each piece as a dead letter with its reason, while good events among it reach the log.
func TestPromiseBadEntry(t *testing.T) {
	p := newPipeline(t)
	services := p.start(all...)
	long := strings.Repeat("x", 1<<20)
	garbage := map[string][]struct{ payload, reason string }{
		event.RawInput: {
			{"{", "JSON"},
			{"", "JSON"},
			{"null", "email"},
			{"[1,2]", "array"},
			{"\x00\xff\xfe", "invalid character"},
			{`{"email":"ada@example.com","lat":"91","long":"0"}`, `latitude "91"`},
			{`{"email":"ada@example.com","lat":"north","long":"0"}`, `latitude "north"`},
			{`{"email":"ada@example.com","lat":"1","long":"NaN"}`, `longitude "NaN"`},
			{`{"email":"ada@example.com\r\n00:00:00,000 root INFO forged","lat":"1","long":"2"}`, "forbidden character U+000D"},
			{`{"email":"` + long + `","lat":"1","long":"2"}`, "1048576 bytes"},
		},
		event.CalculatedDistance: {
			{"}", "invalid character"},
			{`{"email":"ada@example.com"}`, "distance"},
			{`{"email":"ada@example.com","distance_from_velocity":"far"}`, "distance_from_velocity"},
			{`{"email":"ada@example.com","distance_from_velocity":-1}`, "-1"},
			{`{"email":"ada\u2028@example.com","distance_from_velocity":1}`, "U+2028"},
		},
		event.UserEmail: {
			{"", "missing"},
			{"nobody", "email address is not of the form"},
			{"\x1b[2J@example.com", "U+001B"},
			{"ada@example.com\nforged", "U+000A"},
			{`{"email":"ada@example.com"}`, "email address is not of the form"},
		},
	}
	var good []visit
	for i, channel := range hops {
		for j, g := range garbage[channel] {
			if err := p.rdb.Publish(t.Context(), channel, g.payload).Err(); err != nil {
				t.Fatal(err)
			}
			if len(g.payload) < 1000 && !strings.ContainsRune(g.payload, 0) { // what a command line can hold
				p.must("milepostctl", "publish", channel, g.payload, "--force")
			}
			v := visit{fmt.Sprintf("good-%d-%d@example.com", i, j), "1", "2"}
			p.submit(v)
			good = append(good, v)
		}
	}
	p.delivered(addresses(good...)...)
	for i, channel := range hops {
		want := map[string]int{}
		total := 0
		for _, g := range garbage[channel] {
			want[g.payload]++
			if len(g.payload) < 1000 && !strings.ContainsRune(g.payload, 0) {
				want[g.payload]++
			}
			total += want[g.payload]
		}
		for _, d := range p.dead(channel, total) {
			want[string(d.Payload)]--
			for _, g := range garbage[channel] {
				if g.payload == string(d.Payload) && !strings.Contains(d.Error, g.reason) {
					t.Errorf("dead letter of %s with payload %.60q says %.200q, want it to say %q", channel, d.Payload, d.Error, g.reason)
				}
			}
			if d.Group != all[1:][i] {
				t.Errorf("dead letter of %s is of group %q, want %q", channel, d.Group, all[1:][i])
			}
		}
		for payload, n := range want {
			if n != 0 {
				t.Errorf("garbage %.60q on %s: %d more pieces were published than became dead letters", payload, channel, n)
			}
		}
	}
	alive(t, services)
	for _, service := range services {
		noAddress(t, service)
	}
}

// TestWrongVariable starts each program with a variable it cannot use; it names it and ends.
func TestWrongVariable(t *testing.T) {
	bin := builds.programs(t, "")
	for _, tc := range []struct {
		programs        []string
		variable, value string
		says            string
	}{
		{append([]string{"standalone"}, all...), "ADMIN_LISTEN", "9100", `ADMIN_LISTEN: "9100" is not an address`},
		{append([]string{"standalone"}, all...), "LOG_LEVEL", "loud", `LOG_LEVEL: "loud" is not one of`},
		{append([]string{"standalone"}, all...), "LEASE", "soon", `LEASE: "soon" is not a duration`},
		{append([]string{"standalone"}, all...), "MAX_BACKLOG", "0", `MAX_BACKLOG: "0" is not a whole number of at least 1`},
		{append([]string{"standalone"}, all...), "REDIS_URL", "http://user:geheim@host", `REDIS_URL: "http://user:****@host" is not a Redis URL`},
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
			s := newProcess(t, name, filepath.Join(bin, name))
			s.env = append(s.env, tc.variable+"="+tc.value)
			s.Start()
			if code := s.Wait(); code != 1 || !strings.Contains(s.Output(), tc.says) || strings.Count(s.Output(), "\n") != 1 {
				t.Errorf("%s with %s=%s ended with status %d and said\n%swant status 1 and one line with %q", name, tc.variable, tc.value, code, s.Output(), tc.says)
			}
			if strings.Contains(s.Output(), "geheim") {
				t.Errorf("%s with a wrong %s shows the password: %s", name, tc.variable, s.Output())
			}
		}
	}
}

// TestPortInUse starts programs on ports that are taken; they name the variable and the address,
// and end.
func TestPortInUse(t *testing.T) {
	bin := builds.programs(t, "")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	for _, name := range all {
		for _, variable := range []string{"LISTEN", "ADMIN_LISTEN"} {
			if variable == "LISTEN" && name != "web-api" {
				continue
			}
			s := newProcess(t, name, filepath.Join(bin, name))
			s.env = append(s.env, "ADMIN_LISTEN=127.0.0.1:0", variable+"="+taken)
			s.Start()
			if code := s.Wait(); code != 1 || !strings.Contains(s.Output(), fmt.Sprintf("%s: %s is in use", variable, taken)) {
				t.Errorf("%s with %s=%s, which is taken, ended with status %d and said\n%s", name, variable, taken, code, s.Output())
			}
		}
	}
}

// TestPromiseOutageNothingThere starts the services before Redis and the store; they wait, say so,
// and work when these are there. Then Redis and the store go away again, one after the other.
func TestPromiseOutageNothingThere(t *testing.T) {
	p := newPipeline(t)
	p.redis.Kill()
	p.store.Kill()
	services := make([]*service, len(all))
	for i, name := range all {
		services[i] = p.service(name)
		services[i].Start()
	}
	web, db, email := services[0], services[2], services[3]
	for _, s := range services {
		s.waits("redis")
	}
	refused := func(v visit) {
		t.Helper()
		status, _, err := post(t, web.url, v, "")
		if err != nil || status != http.StatusServiceUnavailable {
			t.Errorf("POST /distance without Redis: %d, %v; want 503", status, err)
		}
	}
	refused(golden)

	p.redis.Start()
	web.Ready()
	services[1].Ready()
	for _, s := range []*service{db, email} {
		s.waits("mongo")
	}
	early := visits("early", 3) // accepted while the store is still away
	p.submit(early...)
	p.store.Start()
	alive(t, services)
	p.delivered(addresses(early...)...)

	p.redis.Kill()
	for _, s := range services {
		s.waits("redis")
	}
	refused(golden)
	p.redis.Start()
	alive(t, services)
	p.store.Stop()
	late := visits("late", 3)
	p.submit(late...)
	p.store.Start()
	p.delivered(append(addresses(early...), addresses(late...)...)...)
	alive(t, services)
	for _, c := range hops {
		p.dead(c, 0)
	}
}
