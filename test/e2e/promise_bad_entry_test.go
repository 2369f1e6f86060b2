//go:build unix

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// TestPromiseBadEntry puts garbage on every channel, by redis-cli and by milepostctl. Each piece
// becomes a dead letter with its reason. Good events between them reach the log.
func TestPromiseBadEntry(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	services := p.start(all...)
	long := strings.Repeat("x", 1<<20)
	begin := func(payload string) string { return payload[:min(len(payload), 64<<10)] } // what a dead letter keeps
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
			{`{"email":"` + long + `","lat":"1","long":"2"}`, "at most 65536 are adopted"},
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
			{`{"email":"ada@example.com"}`, "after the @"},
		},
	}
	var good []visit
	for i, channel := range hops {
		for j, g := range garbage[channel] {
			stagetest.OK(t, p.rdb.Publish(t.Context(), channel, g.payload).Err())
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
		want, total := map[string]int{}, 0
		for _, g := range garbage[channel] {
			want[begin(g.payload)]++
			if len(g.payload) < 1000 && !strings.ContainsRune(g.payload, 0) {
				want[begin(g.payload)]++
			}
			total += want[begin(g.payload)]
		}
		for _, d := range p.dead(channel, total) {
			want[string(d.Payload)]--
			for _, g := range garbage[channel] {
				if begin(g.payload) == string(d.Payload) && !strings.Contains(d.Error, g.reason) {
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
