package keys

import (
	"slices"
	"testing"
)

// The tags are part of what is kept in Redis: another version must find the same ones. The slots
// are those that CLUSTER KEYSLOT of redis-server 7.0 answers.
func TestShards(t *testing.T) {
	want := []string{"10", "3", "61", "43", "11", "2", "60", "42", "12", "1", "63", "41", "13", "0", "62", "40"}
	if got := tags(16); !slices.Equal(got, want) {
		t.Errorf("tags(16) = %q, want %q", got, want)
	}
	for n := range 257 {
		for i, slot := range Slots(n) {
			if slot*n/AllSlots != i {
				t.Errorf("shard %d of %d has slot %d, which is in another range", i, n, slot)
			}
		}
	}
	for key, want := range map[string]int{"": 0, "foo": 12182, "123456789": 12739, "shop:{foo}raw_input": 12182, "{}foo": 9500, "a{foo": 113} {
		if got := Slot(key); got != want {
			t.Errorf("Slot(%q) = %d, want %d", key, got, want)
		}
	}
}
