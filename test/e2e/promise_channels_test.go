//go:build unix

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/event"
)

// golden is a submission from New York; goldenMiles is its distance.
var (
	golden      = visit{"ada@example.com", "40.7128", "-74.0060"}
	goldenMiles = "5679.936314229341"
)

// TestPromiseChannelsPayloads listens as any program can, and hears exactly the payloads of the
// contract, one each.
func TestPromiseChannelsPayloads(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	p.start(all...)
	listener := p.rdb.Subscribe(t.Context(), append(hops, "the end")...)
	defer listener.Close()
	for range len(hops) + 1 {
		if _, err := listener.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	heard := listener.Channel(redis.WithChannelSize(10_000))

	vs := append([]visit{golden}, visits("reader", 2)...)
	p.submit(vs...)
	p.delivered(addresses(vs...)...)
	p.cli("PUBLISH", "the end", "!")

	got := map[string][]string{}
	for m := range heard {
		if m.Channel == "the end" {
			break
		}
		got[m.Channel] = append(got[m.Channel], m.Payload)
	}
	miles := p.sent().miles
	for _, v := range vs {
		for channel, payload := range map[string]string{
			event.RawInput:           fmt.Sprintf(`{"email":"%s","lat":"%s","long":"%s"}`, v.Email, v.Lat, v.Long),
			event.CalculatedDistance: fmt.Sprintf(`{"email":"%s","distance_from_velocity":%s,"lat":"%s","long":"%s"}`, v.Email, miles[v.Email], v.Lat, v.Long),
			event.UserEmail:          v.Email,
		} {
			n := 0
			for _, g := range got[channel] {
				if g == payload {
					n++
				}
			}
			if n != 1 {
				t.Errorf("a listener on %s heard %q %d times, want once; all it heard:\n%s", channel, payload, n, strings.Join(got[channel], "\n"))
			}
		}
	}
	for _, c := range hops {
		if len(got[c]) != len(vs) {
			t.Errorf("a listener on %s heard %d messages, want %d: %q", c, len(got[c]), len(vs), got[c])
		}
	}
	if miles[golden.Email] != goldenMiles {
		t.Errorf("New York is %s miles away, want %s", miles[golden.Email], goldenMiles)
	}
}

// TestPromiseChannelsBarePublish publishes each of the three payloads with redis-cli, which writes
// to no stream. Each is in the log exactly once, with one process of each stage and with two.
func TestPromiseChannelsBarePublish(t *testing.T) {
	t.Parallel()
	for name, programs := range map[string][]string{
		"one of each": all,
		"two of each": append(all[:len(all):len(all)], all...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPipeline(t)
			services := p.start(programs...)

			// A bare address needs a document. Its email is sent again.
			known := visits("known", 3)
			p.submit(known...)
			p.delivered(addresses(known...)...)

			var want []string
			const rounds = 25
			for i := range rounds {
				raw, far := fmt.Sprintf("raw-%d@example.com", i), fmt.Sprintf("far-%d@example.com", i)
				p.cli("PUBLISH", event.RawInput, fmt.Sprintf(`{"email":%q,"lat":40.7128,"long":"-74.0060","planet":"Earth"}`, raw))
				p.cli("PUBLISH", event.CalculatedDistance, fmt.Sprintf(`{"email":%q,"distance_from_velocity":12}`, far))
				p.submit(visit{fmt.Sprintf("own-%d@example.com", i), "1", "2"}) // our own among them
				want = append(want, raw, far, fmt.Sprintf("own-%d@example.com", i))
			}
			p.delivered(append(want, addresses(known...)...)...)
			miles := p.sent().miles
			if miles["raw-0@example.com"] != goldenMiles || miles["far-0@example.com"] != "12.0" {
				t.Errorf("miles of the bare raw_input and calculated_distance: %s and %s; want %s and 12.0",
					miles["raw-0@example.com"], miles["far-0@example.com"], goldenMiles)
			}

			for _, v := range known {
				p.cli("PUBLISH", event.UserEmail, v.Email)
			}
			for _, v := range known {
				p.written(v.Email, 2)
			}
			p.idle()
			count := p.sent().of
			for _, v := range known {
				if count[v.Email] != 2 {
					t.Errorf("%s has %d lines after one submission and one bare PUBLISH, want 2", v.Email, count[v.Email])
				}
			}
			alive(t, services)
		})
	}
}
