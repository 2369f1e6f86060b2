package stage_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/redis/go-redis/v9"
)

// TestBase: with a base in front of all names, a pipeline makes no key and uses no channel without
// it.
func TestBase(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b := open(t, o, func(o *stage.Options) { o.Prefix = "base:" })
		handled := make(chan string, 100)
		start(t, b, stage.Config{Name: "first", In: "in", Out: []stage.Output{{Channel: "mid"}}, BackoffMin: time.Hour, BackoffMax: time.Hour},
			stage.Each(func(_ context.Context, e stage.Event[string]) (string, error) {
				switch e.Body {
				case "dead":
					return "", stage.Permanent(errors.New("no"))
				case "retry":
					return "", errors.New("later")
				}
				return e.Body, nil
			}))
		start(t, b, stage.Config{Name: "second", In: "mid", Consumer: "lasting"},
			stage.Each(func(_ context.Context, e stage.Event[string]) (stage.Nothing, error) {
				handled <- e.Body
				return stage.Nothing{}, nil
			}))
		p := publisher(t, b, "in")
		var good string
		for _, body := range []string{"dead", "retry", "good"} {
			r, err := p.Publish(t.Context(), stage.Submission{Body: body, Track: true, Key: body, Limits: []stage.Limit{{Name: "l", Max: 10, Per: time.Hour}}})
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
		b, err := stage.Open(stage.Options{Redis: &redis.Options{Addr: "127.0.0.1:1", DB: tc.database}, Prefix: tc.prefix})
		if (err == nil) != tc.ok {
			t.Errorf("Open with prefix %q in database %d = %v; want it to work: %t", tc.prefix, tc.database, err, tc.ok)
		}
		if err == nil {
			_ = b.Close()
		}
	}
}
