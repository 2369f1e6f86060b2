package stage

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/milepost/milepost/pkg/stage/internal/entry"
)

// An entry that is settled while a reply with it is on its way is not taken for a new one; after the pass it would be.
func TestHeldDuringPass(t *testing.T) {
	var h held
	h.init(10)
	settle := func(id string) { h.release([]settlement{{d: &delivery{Entry: entry.Entry{EntryID: id}}}}) }
	if !h.add("1-1") || h.add("1-1") {
		t.Fatal("an entry is new once")
	}
	end := h.pass()
	settle("1-1")
	if h.add("1-1") {
		t.Error("an entry settled during the pass counts as new")
	}
	end()
	if !h.add("1-1") {
		t.Error("an entry that comes again after the pass does not count as new")
	}
}

// Any order of markers, announced batches and bare messages, seen from each of three subscribers that start at different
// places: every bare message after the first marker is adopted by exactly one of them, and no announced one by any.
func FuzzOwnership(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, uint16(200))
	}
	f.Fuzz(func(t *testing.T, seed uint64, n uint16) {
		r := rand.New(rand.NewPCG(seed, 1))
		owners := []*ownership{{token: "a"}, {token: "b"}, {token: "c"}}
		owned := false
		for range n % 2000 {
			switch r.IntN(4) {
			case 0: // someone takes the lease
				owned = true
				m := "owner:" + owners[r.IntN(len(owners))].token
				for _, o := range owners {
					o.announced(m)
				}
			case 1: // a script publishes a batch: nothing comes in between
				k := r.IntN(5)
				for _, o := range owners {
					o.announced(strconv.Itoa(k))
					for range k {
						if o.published() {
							t.Fatal("an announced message was adopted")
						}
					}
				}
			default:
				adopted := 0
				for _, o := range owners {
					if o.published() {
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
	o := ownership{token: "a"}
	o.announced("owner:a")
	o.announced("3")
	o.published()
	o.announced("1") // two of the three never came: counted, and the new number holds
	if o.odd != 1 || o.published() || !o.published() {
		t.Errorf("after a cut announcement: odd = %d, want 1; then one skipped and the next adopted", o.odd)
	}
	for _, rubbish := range []string{"", "-1", "x", "owner", "9999999999999999999999"} {
		if o.announced(rubbish) {
			t.Errorf("announced(%q) says that someone else owns the channel", rubbish)
		}
	}
	if !o.announced("owner:") {
		t.Error("an empty token is a foreign one")
	}
}
