package stage

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// FuzzOwnershipCluster: adopters come and go at any moment, at subscribers that hear each node in
// its order and the nodes in any order. No announced message is adopted, and no bare one twice. One
// that comes while the only adopter is settled is adopted.
func FuzzOwnershipCluster(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, uint16(400))
	}
	f.Fuzz(func(t *testing.T, seed uint64, n uint16) {
		const nodes = 3
		type message struct{ kept, text string }
		type subscriber struct {
			ownership
			next  [nodes]int // of the log
			ended bool
		}
		var (
			r       = rand.New(rand.NewPCG(seed, 1))
			log     [nodes][]message
			all     []*subscriber
			adopted = map[string]int{}
			sure    = map[string]bool{}
			markers []func() // of candidates, still to be published
		)
		hear := func(s *subscriber, at int) {
			m := log[at][s.next[at]]
			s.next[at]++
			switch {
			case s.ended:
			case m.kept != "":
				s.ended = s.kept(m.kept)
			case s.adopts(m.text):
				adopted[m.text]++
			}
		}
		for i := range int(n) % 2000 {
			at := r.IntN(nodes)
			switch r.IntN(8) {
			case 0: // a candidate, whose markers are published one after another
				if r.IntN(10) > 0 {
					break
				}
				s := &subscriber{ownership: ownership{token: fmt.Sprint(i), missing: map[string]bool{}, content: &content{now: map[mark]int{}, pongs: 1}}}
				for x := range nodes {
					s.next[x] = r.IntN(len(log[x]) + 1) // what was published just now may still come
					s.missing[fmt.Sprint(x)] = true
					markers = append(markers, func() { log[x] = append(log[x], message{kept: fmt.Sprintf("owner:%s %d", s.token, x)}) })
				}
				all = append(all, s)
			case 1:
				if len(markers) > 0 {
					x := r.IntN(len(markers))
					markers[x]()
					markers = append(markers[:x], markers[x+1:]...)
				}
			case 2: // a script
				text := fmt.Sprint("own ", i, " of ", r.IntN(5))
				log[at] = append(log[at], message{kept: announcement(text)}, message{text: text})
			case 3:
				text := fmt.Sprint("bare ", i)
				log[at] = append(log[at], message{text: text})
				if len(markers) == 0 && len(all) > 0 && all[len(all)-1].mine {
					sure[text] = true
				}
			default:
				for _, s := range all {
					if x := r.IntN(nodes); s.next[x] < len(log[x]) {
						hear(s, x)
					}
				}
			}
		}
		for _, s := range all {
			for x := range nodes {
				for s.next[x] < len(log[x]) {
					hear(s, x)
				}
			}
		}
		for text, n := range adopted {
			if n > 1 || text[:3] == "own" {
				t.Fatalf("%q was adopted %d times", text, n)
			}
		}
		for text := range sure {
			if adopted[text] != 1 && len(all) == 1 {
				t.Fatalf("%q was adopted %d times by a settled adopter", text, adopted[text])
			}
		}
	})
}

func announcement(text string) string { m := markOf(text); return string(m[:]) }

// TestContent: what was announced is told from what was not, by content and number, and forgotten
// only after a second span.
func TestContent(t *testing.T) {
	c := content{now: map[mark]int{}, pongs: 1}
	a, b := announcement("a"), announcement("b")
	if !c.announce(a+a+b) || !c.take("a") || c.take("c") {
		t.Error("announced a, a, b: want a known and c not")
	}
	if n := c.forget(); n != 0 || !c.take("a") || c.take("a") {
		t.Errorf("forgot %d after one span, want 0; then want a known once more", n)
	}
	if n := c.forget(); n != 1 || c.take("b") {
		t.Errorf("forgot %d after two spans, want 1: b", n)
	}
	for _, rubbish := range []string{"3", "owner", a[1:], a + "x", "ABCDEFABCDEF"} {
		if c.announce(rubbish) {
			t.Errorf("announce(%q) was believed", rubbish)
		}
	}
	if !c.announce("") || len(c.now) != 0 {
		t.Error("an empty announcement is none")
	}
}
