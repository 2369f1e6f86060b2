package inspect_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// TestFind finds events wherever they can be: not read, in hands, failed, set aside, done, and on a
// channel nobody reads.
func TestFind(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b := open(t, o)
		hold := make(chan struct{})
		start(t, b, stage.Config{Name: "first", In: "in", Out: []stage.Output{{Channel: "mid"}}, BackoffMin: time.Hour, BackoffMax: time.Hour},
			stage.Each(func(ctx context.Context, e stage.Event[string]) (string, error) {
				switch e.Body {
				case "bad":
					return "", stage.Permanent(errors.New("makes no sense"))
				case "later":
					return "", errors.New("not\ntoday")
				case "slow":
					select {
					case <-hold:
					case <-ctx.Done():
					}
				}
				return e.Body, nil
			}))
		defer close(hold)
		stop := start(t, b, stage.Config{Name: "second", In: "mid", Out: []stage.Output{{Channel: "end", Unread: true}}},
			stage.Each(func(_ context.Context, e stage.Event[string]) (string, error) { return e.Body, nil }))
		p := b.Publisher("edge", "in")
		t.Cleanup(func() { p.Close() })
		publish := func(body, id string) string {
			t.Helper()
			r, err := p.Publish(t.Context(), stage.Submission{Body: body, ID: id})
			stagetest.OK(t, err)
			return r.ID
		}
		until := func(id string, want ...string) (places []inspect.Place) {
			t.Helper()
			stagetest.Eventually(t, fmt.Sprintf("event %s is found as %q", id, want), func() bool {
				var states []string
				states, places = find(t, b, id)
				return reflect.DeepEqual(states, want)
			})
			return places
		}
		begin := time.Now()

		good := publish("good", "")
		stagetest.Eventually(t, "the good event has gone all the way", func() bool {
			states, _ := find(t, b, good)
			return len(states) > 0 && states[len(states)-1] == "end unread"
		})
		bad := until(publish("bad", ""), "in first set aside")[0]
		if bad.Error != "makes no sense" || bad.Since.Before(begin.Add(-time.Second)) {
			t.Errorf("the dead letter's place: %+v; want its error and a time after %s", bad, begin)
		}
		later := until(publish("later", ""), "in first retrying")[0]
		if later.Error != "not today" || later.Tries != 1 || later.Due.Before(begin.Add(20*time.Minute)) {
			t.Errorf("the failed event's place: %+v; want its error on one line, one try, and when it is due", later)
		}
		slow := until(publish("slow", "not a UUID"), "in first pending")[0]
		if slow.Consumer == "" || slow.Since.Before(begin.Add(-time.Second)) || slow.Since.After(time.Now()) {
			t.Errorf("the pending event's place: %+v; want its consumer and since when", slow)
		}
		stop()
		until(publish("waits", ""), "in first settled", "mid second waiting")
		// A version 7 UUID of the year 2100: its time says nothing about when the entry was
		// added.
		until(publish("waits", "03bb2cc3-d800-7000-8000-000000000001"), "in first settled", "mid second waiting")
		if states, _ := find(t, b, "00000000-0000-0000-0000-000000000000"); states != nil {
			t.Errorf("an event that never was is found: %q", states)
		}
		if states, _ := find(t, b, "*"); states != nil {
			t.Errorf("a pattern is not an event ID, and finds %q", states)
		}
		observed(t, b)
	})
}

// find returns where an event is, in words and whole.
func find(t *testing.T, b *stage.Broker, id string) (states []string, places []inspect.Place) {
	t.Helper()
	places, err := inspect.New(b).Find(t.Context(), id)
	stagetest.OK(t, err)
	for _, p := range places {
		states = append(states, strings.Join(strings.Fields(p.Channel+" "+p.Group+" "+p.State), " "))
	}
	return states, places
}

// observed checks what the observer sees after TestFind's events.
func observed(t *testing.T, b *stage.Broker) {
	t.Helper()
	seen, err := inspect.New(b).Observer(0).Observe(t.Context())
	stagetest.OK(t, err)
	var order []string
	for _, s := range seen.Stages {
		order = append(order, s.Name)
	}
	if got := strings.Join(order, " "); got != "edge first second" {
		t.Errorf("stages in the order of the flow: %q", got)
	}
	if len(seen.Dead) != 1 || seen.Dead[0].Error != "makes no sense" || seen.Dead[0].Payload != nil {
		t.Errorf("dead letters: %+v; want the one, without its payload", seen.Dead)
	}
	if len(seen.Retries) != 1 || seen.Retries[0].Error != "not today" || seen.Retries[0].Group != "first" {
		t.Errorf("retries: %+v; want the one", seen.Retries)
	}
	if n, more := seen.DeadOf("in", "first"); n != 1 || more {
		t.Errorf("dead letters of first: %d, more %v; want 1", n, more)
	}
	if n, more := seen.RetriesOf("in", "other"); n != 0 || more {
		t.Errorf("retries of another group: %d, more %v; want none", n, more)
	}
	mid, _ := seen.Channel("mid")
	if g := mid.Groups[0]; g.Backlog != 2 || g.OldestEvent == "" || len(g.Consumers) != 0 {
		t.Errorf("the group that nobody runs: %+v; want 2 waiting and the oldest one's event", g)
	}
}

// TestObserverRates: rates are taken between looks, and one look serves all who ask within its
// time.
func TestObserverRates(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b := open(t, o)
		start(t, b, stage.Config{Name: "first", In: "in"}, stage.Each(
			func(context.Context, stage.Event[string]) (stage.Nothing, error) { return stage.Nothing{}, nil }))
		observer, shared := inspect.New(b).Observer(0), inspect.New(b).Observer(time.Hour)
		if s, err := observer.Observe(t.Context()); err != nil || s.Channels[0].Rate != nil || s.Channels[0].Groups[0].Rate != nil {
			t.Fatalf("the first look: %+v, %v; want no rates", s.Channels, err)
		}
		first, err := shared.Observe(t.Context())
		stagetest.OK(t, err)
		p := b.Publisher("edge", "in")
		t.Cleanup(func() { p.Close() })
		for range 50 {
			if _, err := p.Publish(t.Context(), stage.Submission{Body: "x"}); err != nil {
				t.Fatal(err)
			}
		}
		stagetest.Eventually(t, "the rates are there", func() bool {
			s, err := observer.Observe(t.Context())
			stagetest.OK(t, err)
			in, _ := s.Channel("in")
			return in.Rate != nil && *in.Rate > 0 && in.Groups[0].Rate != nil && *in.Groups[0].Rate > 0
		})
		if again, err := shared.Observe(t.Context()); err != nil || !again.At.Equal(first.At) || again.Channels[0].Added != 0 {
			t.Errorf("a second look within an hour: %+v, %v; want the first one's", again, err)
		}
	})
}

// TestStatusSaysWhy: a stage that pauses tells status why, a lasting consumer too, and stops
// telling when it goes on.
func TestStatusSaysWhy(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		b := open(t, o)
		var up atomic.Bool
		probe := func(context.Context) error {
			if up.Load() {
				return nil
			}
			return errors.New("the store is\naway")
		}
		for i, consumer := range []string{"", "lasting"} {
			channel := fmt.Sprintf("in%d", i)
			up.Store(false)
			start(t, b, stage.Config{Name: "keeps", In: channel, Consumer: consumer, Probe: probe}, stage.Each(
				func(ctx context.Context, _ stage.Event[string]) (stage.Nothing, error) {
					return stage.Nothing{}, probe(ctx)
				}))
			p := b.Publisher("edge", channel)
			if _, err := p.Publish(t.Context(), stage.Submission{Body: "x"}); err != nil {
				t.Fatal(err)
			}
			p.Close()
			why := func() string {
				s, err := inspect.New(b).Status(t.Context(), channel)
				if err != nil || len(s.Groups) != 1 || len(s.Groups[0].Consumers) != 1 || s.Groups[0].Consumers[0].State != "alive" {
					t.Fatalf("status of %s: %+v, %v; want one group with one consumer, alive", channel, s, err)
				}
				c := s.Groups[0].Consumers[0]
				return c.Obstacle + ", " + c.Why
			}
			stagetest.Eventually(t, "status says why", func() bool { return why() == "paused, the store is away" })
			up.Store(true)
			stagetest.Eventually(t, "status says that it works", func() bool { return why() == ", " })
		}
	})
}
