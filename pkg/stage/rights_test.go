package stage_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// TestRights: a user that lacks rights keeps programs from working before their first write. The
// error names what is missing and the command that grants it, and with no more than that a pipeline
// works, without a restart.
func TestRights(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string]string{
		"no channels":  "~* +@all resetchannels",
		"no keys":      "&* +@all resetkeys",
		"no scripting": "~* &* +@all -@scripting",
		"no ack":       "~* &* +@all -xack",
		"nothing":      "resetkeys resetchannels -@all",
		"no commands":  "~* &* -@all +eval +evalsha",
		"no database":  "~* &* +@all -select",
		"one key":      "~none resetchannels -@all +@scripting +get",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tryRights(t, rules)
		})
	}
}

// tryRights runs a stage and a publisher with a user that has these rules, and grants what is
// missing.
func tryRights(t *testing.T, rules string) {
	server := stagetest.Real(t)
	o := server.Options()
	if strings.HasSuffix(rules, "-select") {
		o.DB = 1
	}
	admin := stagetest.Client(t, o)
	command(t, admin, "ACL SETUSER app on >p@ss/word "+rules)
	app := *o
	app.Username, app.Password = "app", "p@ss/word"
	b, err := stage.Open(stage.Options{Redis: &app, Lease: time.Second, Prefix: "shop:"})
	stagetest.OK(t, err)
	t.Cleanup(func() { b.Close() })
	handled := make(chan string, 10)
	s, _ := running(t, b, stage.Config{Name: "first", In: "in", Out: []stage.Output{{Channel: "out", Unread: true}}},
		stage.Each(func(_ context.Context, e stage.Event[string]) (string, error) {
			handled <- e.Body
			return e.Body, nil
		}))
	p := publisher(t, b, "in")
	submission := stage.Submission{Body: "x", Track: true, Key: "k", Limits: []stage.Limit{{Name: "l", Max: 9, Per: time.Hour}}}
	var lacks *stage.RightsError
	if _, err := p.Publish(t.Context(), submission); !errors.As(err, &lacks) || !errors.Is(err, stage.ErrUnavailable) {
		t.Fatalf("Publish = %v, want a RightsError that wraps ErrUnavailable", err)
	}
	stagetest.Eventually(t, "the stage says it too", func() bool { return errors.As(s.Ready(), new(*stage.RightsError)) })
	if err := b.Ping(t.Context()); !errors.As(err, new(*stage.RightsError)) {
		t.Errorf("Ping = %v, want a RightsError", err)
	}
	if keys := admin.Keys(t.Context(), "*").Val(); len(keys) > 0 {
		t.Errorf("it has written %q", keys)
	}

	for range 2 { // without scripts it cannot say the rest
		command(t, admin, lacks.Grant)
		if _, err = p.Publish(t.Context(), submission); !errors.As(err, &lacks) {
			break
		}
	}
	if err != nil {
		t.Fatalf("Publish after %s = %v", lacks.Grant, err)
	}
	stagetest.Eventually(t, "the stage works", func() bool { return s.Ready() == nil && b.Ping(t.Context()) == nil })
	if got := <-handled; got != "x" {
		t.Errorf("handled %q, want x", got)
	}
	stagetest.Eventually(t, "it adopts", func() bool { return admin.Exists(t.Context(), "shop:in:adopter").Val() == 1 })
	admin.Publish(t.Context(), "shop:in", "bare")
	if got := <-handled; got != "bare" {
		t.Errorf("handled %q, want bare", got)
	}
	stagetest.Eventually(t, "both are forwarded", func() bool { return admin.XLen(t.Context(), "shop:out").Val() == 2 })
}

// command runs a line of redis-cli.
func command(t *testing.T, rdb *redis.Client, line string) {
	t.Helper()
	var words []any
	for _, w := range strings.Fields(line) {
		words = append(words, w)
	}
	if err := rdb.Do(t.Context(), words...).Err(); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
}

// TestRefusedWhileRunning: credentials or a role that changed under a running program are an
// outage.
func TestRefusedWhileRunning(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]struct {
		spoil, mend []any
	}{
		"read-only": {[]any{"REPLICAOF", "127.0.0.1", "1"}, []any{"REPLICAOF", "NO", "ONE"}},
		"password":  {[]any{"ACL", "SETUSER", "app", ">other", "<secret"}, []any{"ACL", "SETUSER", "app", ">secret"}},
		"rights":    {[]any{"ACL", "SETUSER", "app", "-xadd"}, []any{"ACL", "SETUSER", "app", "+xadd"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := stagetest.Real(t)
			admin := stagetest.Client(t, server.Options())
			admin.Do(t.Context(), "ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all")
			o := server.Options()
			o.Username, o.Password = "app", "secret"
			b, err := stage.Open(stage.Options{Redis: o})
			stagetest.OK(t, err)
			t.Cleanup(func() { b.Close() })
			p := publisher(t, b, "in")
			if _, err := p.Publish(t.Context(), stage.Submission{Body: "x"}); err != nil {
				t.Fatal(err)
			}
			admin.Do(t.Context(), change.spoil...)
			admin.Do(t.Context(), "CLIENT", "KILL", "USER", "app")
			if _, err := p.Publish(t.Context(), stage.Submission{Body: "x"}); !errors.Is(err, stage.ErrUnavailable) {
				t.Errorf("Publish = %v, want ErrUnavailable", err)
			}
			stagetest.Eventually(t, "Ping says it", func() bool { return errors.Is(b.Ping(t.Context()), stage.ErrUnavailable) })
			admin.Do(t.Context(), change.mend...)
			stagetest.Eventually(t, "it goes on", func() bool {
				_, err := p.Publish(t.Context(), stage.Submission{Body: "x"})
				return err == nil && b.Ping(t.Context()) == nil
			})
		})
	}
}
