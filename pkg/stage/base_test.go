package stage

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/redis/go-redis/v9"
)

// TestBase: with a base in front of all names, a pipeline makes no key and uses no channel without
// it.
func TestBase(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b, err := Open(Options{Redis: o, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Lease: time.Second, Prefix: "base:"})
		stagetest.OK(t, err)
		t.Cleanup(func() { b.Close() })
		handled := make(chan string, 100)
		run := func(c Config, h Handler) {
			s, err := b.New(c, h)
			stagetest.OK(t, err)
			stagetest.Run(t, s)
			stagetest.Eventually(t, c.Name+" is ready", func() bool { return s.Ready() == nil })
		}
		run(Config{Name: "first", In: "in", Out: []Output{{Channel: "mid"}}, BackoffMin: time.Hour, BackoffMax: time.Hour},
			Each(func(_ context.Context, e Event[string]) (string, error) {
				switch e.Body {
				case "dead":
					return "", Permanent(errors.New("no"))
				case "retry":
					return "", errors.New("later")
				}
				return e.Body, nil
			}))
		run(Config{Name: "second", In: "mid", Consumer: "lasting"}, Each(func(_ context.Context, e Event[string]) (Nothing, error) {
			handled <- e.Body
			return Nothing{}, nil
		}))
		p := b.Publisher("edge", "in")
		t.Cleanup(func() { p.Close() })
		var good string
		for _, body := range []string{"dead", "retry", "good"} {
			r, err := p.Publish(t.Context(), Submission{Body: body, Track: true, Key: body, Limits: []Limit{{Name: "l", Max: 10, Per: time.Hour}}})
			stagetest.OK(t, err)
			good = r.ID
		}
		if got := <-handled; got != "good" {
			t.Fatalf("the second stage handled %q, want good", got)
		}
		stagetest.Eventually(t, "all steps of the good event are there", func() bool {
			steps, _ := b.Progress(t.Context(), good)
			return len(steps) == 3 && strings.Join(steps[1].Next, " ") == "mid"
		})
		rdb := stagetest.Client(t, o)
		stagetest.Eventually(t, "someone adopts", func() bool { return rdb.Exists(t.Context(), "base:in:adopter").Val() == 1 })
		names := append(rdb.Keys(t.Context(), "*").Val(), rdb.PubSubChannels(t.Context(), "*").Val()...)
		if len(names) < 20 {
			t.Errorf("%d keys and channels; want at least 20: %q", len(names), names)
		}
		for _, name := range names {
			if !strings.HasPrefix(name, "base:") {
				t.Errorf("a name without the base: %s", name)
			}
		}
	})
}

// TestPrefixNeeded: a database alone does not separate pipelines: channels belong to all of Redis.
// TestPromiseExactlyOnceRedises of test/e2e runs two pipelines on one Redis.
func TestPrefixNeeded(t *testing.T) {
	for _, tc := range []struct {
		prefix   string
		database int
		ok       bool
	}{{"", 0, true}, {"", 1, false}, {"shop:", 1, true}, {"{shop}", 0, false}, {"two words", 0, false}, {strings.Repeat("x", 65), 0, false}} {
		b, err := Open(Options{Redis: &redis.Options{Addr: "127.0.0.1:1", DB: tc.database}, Prefix: tc.prefix})
		if (err == nil) != tc.ok {
			t.Errorf("Open with prefix %q in database %d = %v; want it to work: %t", tc.prefix, tc.database, err, tc.ok)
		}
		if err == nil {
			_ = b.Close()
		}
	}
}
