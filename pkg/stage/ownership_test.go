package stage

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
)

// pubsub is what some nodes published, each in its order, and who hears it.
type pubsub struct {
	log     [3][]message
	all     []*subscriber
	adopted map[string]int
	markers []func() // of candidates, still to be published
}

type message struct{ kept, text string }

// subscriber hears each node in its order, and the nodes in any order.
type subscriber struct {
	ownership
	next  [3]int // of the log
	ended bool
}

// subscribe adds a candidate. What was published just now may still come.
func (p *pubsub) subscribe(r *rand.Rand, token string) {
	s := &subscriber{ownership: ownership{token: token, missing: map[string]bool{}, announced: newContent(1)}}
	for x := range p.log {
		s.next[x] = r.IntN(len(p.log[x]) + 1)
		s.missing[fmt.Sprint(x)] = true
		p.markers = append(p.markers, func() { p.log[x] = append(p.log[x], message{kept: fmt.Sprintf("owner:%s %d", token, x)}) })
	}
	p.all = append(p.all, s)
}

// hear has a subscriber take the next message of a node, and tells whether there was one.
func (p *pubsub) hear(s *subscriber, at int) bool {
	if s.next[at] == len(p.log[at]) {
		return false
	}
	m := p.log[at][s.next[at]]
	s.next[at]++
	switch {
	case s.ended:
	case m.kept != "":
		s.ended = s.kept(m.kept)
	case s.adopts(m.text):
		p.adopted[m.text]++
	}
	return true
}

// FuzzOwnershipCluster: adopters come and go at any moment. No announced message is adopted, and no
// bare one twice. What comes while the only adopter is settled is adopted.
func FuzzOwnershipCluster(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, uint16(400))
	}
	f.Fuzz(func(t *testing.T, seed uint64, n uint16) {
		r := rand.New(rand.NewPCG(seed, 1))
		p := pubsub{adopted: map[string]int{}}
		sure := map[string]bool{}
		for i := range int(n) % 2000 {
			at := r.IntN(len(p.log))
			switch r.IntN(8) {
			case 0:
				if r.IntN(10) == 0 {
					p.subscribe(r, fmt.Sprint(i))
				}
			case 1:
				if len(p.markers) > 0 {
					x := r.IntN(len(p.markers))
					p.markers[x]()
					p.markers = append(p.markers[:x], p.markers[x+1:]...)
				}
			case 2: // a script
				text := fmt.Sprint("own ", i, " of ", r.IntN(5))
				p.log[at] = append(p.log[at], message{kept: announcement(text)}, message{text: text})
			case 3:
				text := fmt.Sprint("bare ", i)
				p.log[at] = append(p.log[at], message{text: text})
				sure[text] = len(p.markers) == 0 && len(p.all) == 1 && p.all[0].mine
			default:
				for _, s := range p.all {
					p.hear(s, r.IntN(len(p.log)))
				}
			}
		}
		for _, s := range p.all {
			for x := range p.log {
				for p.hear(s, x) {
				}
			}
		}
		for text, n := range p.adopted {
			if n > 1 || text[:3] == "own" {
				t.Fatalf("%q was adopted %d times", text, n)
			}
		}
		for text, is := range sure {
			if is && len(p.all) == 1 && p.adopted[text] != 1 {
				t.Fatalf("%q was adopted %d times by a settled adopter", text, p.adopted[text])
			}
		}
	})
}

func announcement(text string) string { m := markOf(text); return string(m[:]) }

// TestContent: what was announced is told from what was not, by content and number, and forgotten
// only after a second span.
func TestContent(t *testing.T) {
	c := newContent(1)
	announce := func(marks string) bool { untrue, _ := c.announce(marks); return untrue == 0 }
	a, b := announcement("a"), announcement("b")
	if !announce(a+a+b) || !c.take("a") || c.take("c") {
		t.Error("announced a, a, b: want a known and c not")
	}
	if n := c.pong(); n != 0 || !c.take("a") || c.take("a") {
		t.Errorf("forgot %d after one span, want 0; then want a known once more", n)
	}
	if n := c.pong(); n != 1 || c.take("b") {
		t.Errorf("forgot %d after two spans, want 1: b", n)
	}
	for _, rubbish := range []string{"3", "owner", a[1:], a + "x", "ABCDEFABCDEF"} {
		if announce(rubbish) {
			t.Errorf("announce(%q) was believed", rubbish)
		}
	}
	if !announce("") || len(c.now) != 0 {
		t.Error("an empty announcement is none")
	}
}

// Any order of markers, announced batches and bare messages, seen from each of three subscribers
// that start at different places: every bare message after the first marker is adopted by exactly
// one of them, and no announced one by any.
func FuzzOwnership(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, uint16(200))
	}
	f.Fuzz(func(t *testing.T, seed uint64, n uint16) {
		r := rand.New(rand.NewPCG(seed, 1))
		var owners []*ownership
		for _, token := range []string{"a", "b", "c"} {
			owners = append(owners, &ownership{token: token, announced: new(counted)})
		}
		owned := false
		for range n % 2000 {
			switch r.IntN(4) {
			case 0: // someone takes the lease
				owned = true
				m := "owner:" + owners[r.IntN(len(owners))].token
				for _, o := range owners {
					o.kept(m)
				}
			case 1: // a script publishes a batch: nothing comes in between
				k := r.IntN(5)
				for _, o := range owners {
					o.kept(strconv.Itoa(k))
					for range k {
						if o.adopts("m") {
							t.Fatal("an announced message was adopted")
						}
					}
				}
			default:
				adopted := 0
				for _, o := range owners {
					if o.adopts("m") {
						adopted++
					}
				}
				if want := map[bool]int{true: 1}[owned]; adopted != want {
					t.Fatalf("a bare message was adopted by %d subscribers, want %d", adopted, want)
				}
			}
		}
	})
}

func TestOwnershipStartsOver(t *testing.T) {
	o := ownership{token: "a", announced: new(counted)}
	o.kept("owner:a")
	o.kept("3")
	o.adopts("m")
	o.kept("1") // two of the three never came: counted, and the new number holds
	if o.odd != 1 || o.adopts("m") || !o.adopts("m") {
		t.Errorf("after a cut announcement: odd = %d, want 1; then one skipped and the next adopted", o.odd)
	}
	o.kept("5")
	o.pong()
	if o.adopts("m") {
		t.Error("one reply to a PING ended an announcement")
	}
	o.pong()
	if o.odd != 2 || !o.adopts("m") {
		t.Errorf("two replies to a PING after an announcement: odd = %d, want 2, and the next adopted", o.odd)
	}
	for _, rubbish := range []string{"", "-1", "x", "owner", "9999999999999999999999", "1000000000"} {
		if o.kept(rubbish) || !o.adopts("m") {
			t.Errorf("kept(%q) says that someone else owns the channel, or has a message skipped", rubbish)
		}
	}
	if !o.kept("owner:") {
		t.Error("an empty token is a foreign one")
	}
}
