package standalone_test

import (
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/services/standalone/embedded"
)

// A store that is away, at first and again later, costs no submission: the program says what it
// waits for, keeps what is submitted, and goes on when the store is there.
func TestStoreComesLate(t *testing.T) {
	t.Parallel()
	env := environment(t, t.TempDir())
	addr := env["EMBEDDED_MONGO"]
	env["MONGO_URL"] = "mongodb://" + addr + "/?serverSelectionTimeoutMS=300"
	r := begin(t, env)
	r.until("/readyz says that mongo is away and all else is ready", func() bool {
		report, ok := r.ready()
		return !ok && strings.Contains(report, "mongo: mongo is away: ") && strings.Contains(report, "web-api: ok")
	})
	lines := func() int { return strings.Count(r.log(), "\n") }
	for outage := 1; outage <= 2; outage++ {
		r.post("ada@example.com", "40.7128", "-74.0060")
		r.until("/readyz says that db is paused", func() bool {
			report, ok := r.ready()
			return !ok && strings.Contains(report, "db: paused: ")
		})
		if lines() != outage-1 {
			t.Fatalf("%d lines in outage %d; want %d", lines(), outage, outage-1)
		}
		store, err := embedded.StartStore(env["DATA"], addr, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		r.until("a line for each submission", func() bool { return lines() == outage })
		r.until("ready", func() bool { _, ok := r.ready(); return ok })
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	c := redis.NewClient(&redis.Options{Addr: env["EMBEDDED_REDIS"]})
	defer c.Close()
	for _, channel := range []string{event.RawInput, event.CalculatedDistance, event.UserEmail} {
		if n, err := c.XLen(t.Context(), channel+":dead").Result(); n != 0 || err != nil {
			t.Errorf("%d dead letters of %s, %v; want none: an outage is nobody's fault", n, channel, err)
		}
	}
	r.stop()
}

// Without its Redis the page shows and a submission is answered 503 with when to try again; it
// works when Redis is there.
func TestRedisComesLate(t *testing.T) {
	t.Parallel()
	env := environment(t, t.TempDir())
	env["REDIS_URL"] = "redis://" + env["EMBEDDED_REDIS"] + "/0"
	r := begin(t, env)
	var page *http.Response
	r.until("the page", func() (ok bool) {
		var err error
		page, err = http.Get("http://" + env["LISTEN"] + "/")
		return err == nil
	})
	_ = page.Body.Close()
	if page.StatusCode != http.StatusOK {
		t.Errorf("GET / without Redis = %d; want 200", page.StatusCode)
	}
	resp, err := http.Post("http://"+env["LISTEN"]+"/distance", "application/json",
		strings.NewReader(`{"email":"ada@example.com","lat":"40.7128","long":"-74.0060"}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if after, err := strconv.Atoi(resp.Header.Get("Retry-After")); resp.StatusCode != http.StatusServiceUnavailable || err != nil || after < 1 {
		t.Errorf("POST /distance without Redis = %d, Retry-After %q; want 503 and some seconds", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	own, err := embedded.StartRedis(env["EMBEDDED_REDIS"])
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	r.until("ready", func() bool { _, ok := r.ready(); return ok })
	r.post("ada@example.com", "40.7128", "-74.0060")
	r.until("a line in the log", func() bool { return newYork.MatchString(r.log()) })
	r.stop()
}
