package embedded_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// The history of an address comes in pages, newest first, without a gap or a repeat where several
// were submitted in one millisecond.
func TestHistory(t *testing.T) {
	s, err := records.Open(startStore(t, t.TempDir()).URL(), "milepost", 4)
	stagetest.OK(t, err)
	t.Cleanup(func() { _ = s.Close(t.Context()) })
	stagetest.OK(t, s.EnsureIndexes(t.Context(), quiet))
	if p, err := s.Profile(t.Context(), "ada@example.com"); p != (records.Profile{}) || err != nil {
		t.Errorf("Profile in an empty store = %v, %v; want the zero Profile", p, err)
	}
	const n = 100
	all := make([]records.Record, n)
	for i := range all {
		all[i] = record(0)
		all[i].ID = fmt.Sprintf("ev-%03d", i)
		switch i % 4 { // spellings of one mailbox; the last is from a program that knows none
		case 1:
			all[i].Email, all[i].Mailbox = "Ada@example.com", "ada@example.com"
		case 2:
			all[i].Email = "ADA@Example.COM"
		}
		all[i].SubmittedAt = at.Add(time.Duration(i/7) * time.Millisecond)
	}
	bob := record(500)
	bob.Email = "bob@example.com"
	mustInsert(t, s, append(all, bob)...)
	p, err := s.Profile(t.Context(), "ADA@Example.COM")
	if want := (records.Profile{Submissions: n, First: at, Last: at.Add(14 * time.Millisecond)}); p != want || err != nil {
		t.Errorf("Profile = %+v, %v; want %+v", p, err, want)
	}
	var place records.Place
	for seen := 0; seen < n; {
		page, err := s.History(t.Context(), "ADA@Example.COM", place, 9)
		if err != nil || len(page) == 0 {
			t.Fatalf("History after %+v = %v, %v; %d seen", place, page, err, seen)
		}
		for _, r := range page {
			if want := all[n-1-seen]; r != want {
				t.Fatalf("record %d = %+v, want %+v", seen, r, want)
			}
			seen++
			place = records.Place{At: r.SubmittedAt, ID: r.ID}
		}
	}
	if page, err := s.History(t.Context(), "ADA@Example.COM", place, 9); len(page) != 0 || err != nil {
		t.Errorf("History after the last = %v, %v; want none", page, err)
	}
}
