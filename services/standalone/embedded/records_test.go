package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/services/standalone/embedded"
)

// The tests of pkg/records are here because only this module may name FerretDB.

var at = time.Date(2026, 2, 3, 4, 5, 6, 789e6, time.UTC)

func record(n int) records.Record {
	return records.Record{
		ID: fmt.Sprintf("ev-%d", n), Email: "ada@example.com", Miles: 5679.936314228998,
		Lat: "40.7128", Long: "-74.0060", SubmittedAt: at.Add(time.Duration(n) * time.Second), StoredAt: at.Add(time.Hour),
	}
}

func open(t *testing.T, url string) *records.Store {
	t.Helper()
	s, err := records.Open(url, "milepost", 0)
	if err != nil {
		t.Fatalf("Open(%q) = %v", url, err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

func mustInsert(t *testing.T, s *records.Store, all ...records.Record) {
	t.Helper()
	if err := errors.Join(s.InsertMany(t.Context(), all)...); err != nil {
		t.Fatalf("InsertMany = %v", err)
	}
}

func TestRecordComesBackAsItWas(t *testing.T) {
	s := open(t, startStore(t, t.TempDir()).URL())
	full, bare := record(1), record(2)
	bare.Lat, bare.Long = "", ""
	mustInsert(t, s, full, bare)
	got, err := s.FindByIDs(t.Context(), []string{full.ID, "ev-none", bare.ID})
	want := map[string]records.Record{full.ID: full, bare.ID: bare}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("FindByIDs = %+v, %v; want %+v", got, err, want)
	}
	if got, err := s.FindByIDs(t.Context(), []string{full.ID}); err != nil || got[full.ID] != full {
		t.Errorf("FindByIDs of one = %+v, %v; want %+v", got, err, full)
	}
	if miles, err := s.Distances(t.Context(), []string{full.ID, "ev-none", bare.ID}); err != nil || len(miles) != 2 || miles[full.ID].Miles != full.Miles || miles[bare.ID].Miles != bare.Miles {
		t.Errorf("Distances = %v, %v; want those of %+v and %+v", miles, err, full, bare)
	}
	if got, err := s.FindByIDs(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("FindByIDs of none = %v, %v; want none", got, err)
	}
}

// Every record of a batch that partly exists already counts as stored, and the first version stays.
func TestInsertAgain(t *testing.T) {
	s := open(t, startStore(t, t.TempDir()).URL())
	mustInsert(t, s, record(0), record(2))
	again := make([]records.Record, 300) // more than FerretDB inserts at once
	for i := range again {
		again[i] = record(i)
		again[i].Miles = 1
	}
	again[299] = again[298] // and one of them twice in the batch itself
	mustInsert(t, s, again...)
	for id, miles := range map[string]float64{"ev-0": record(0).Miles, "ev-1": 1, "ev-2": record(2).Miles, "ev-298": 1} {
		got, err := s.FindByIDs(t.Context(), []string{id})
		if err != nil || got[id].Miles != miles {
			t.Errorf("record %s = %+v, %v; want %v miles", id, got[id], err, miles)
		}
	}
	if n := count(t, s, again); n != 299 {
		t.Errorf("%d records; want 299", n)
	}
}

func count(t *testing.T, s *records.Store, all []records.Record) int {
	t.Helper()
	ids := make([]string, len(all))
	for i, r := range all {
		ids[i] = r.ID
	}
	got, err := s.FindByIDs(t.Context(), ids)
	stagetest.OK(t, err)
	return len(got)
}

func TestNewest(t *testing.T) {
	s := open(t, startStore(t, t.TempDir()).URL())
	for range 2 { // the second finds them made
		stagetest.OK(t, s.EnsureIndexes(t.Context(), quiet))
	}
	if got, ok, err := s.Newest(t.Context(), "ada@example.com"); ok || err != nil {
		t.Errorf("Newest in an empty store = %v, %v, %v; want none", got, ok, err)
	}
	bob := record(9)
	bob.Email = "bob@example.com"
	mustInsert(t, s, record(3), record(7), record(5), bob)
	if got, ok, err := s.Newest(t.Context(), "ada@example.com"); got != record(7) || !ok || err != nil {
		t.Errorf("Newest = %+v, %v, %v; want %+v", got, ok, err, record(7))
	}
}

// Whatever call meets a store that is away, hangs or goes away says that it is down, and the same
// client works again when the store is back.
func TestOutage(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	stagetest.OK(t, err)
	addr := l.Addr().String()
	hang := open(t, "mongodb://"+addr+"/?serverSelectionTimeoutMS=300&connectTimeoutMS=200")
	wantDown(t, "hangs", hang) // it accepts connections and never answers
	stagetest.OK(t, l.Close())
	s := open(t, "mongodb://"+addr+"/?serverSelectionTimeoutMS=300")
	wantDown(t, "is away", s)
	if err := s.Ping(t.Context()); !strings.HasPrefix(err.Error(), "mongo: dial tcp ") {
		t.Errorf("Ping without a store = %v, want only why it cannot be reached", err)
	}

	dir := t.TempDir()
	made := make(chan error, 1)
	go func() { made <- s.EnsureIndexes(t.Context(), quiet) }()
	store, err := embedded.StartStore(dir, addr, quiet)
	stagetest.OK(t, err)
	if err := <-made; err != nil {
		t.Errorf("EnsureIndexes begun while the store was away = %v", err)
	}
	mustInsert(t, s, record(1))
	stagetest.OK(t, store.Close())
	wantDown(t, "went away", s)

	if store, err = embedded.StartStore(dir, addr, quiet); err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for s.Ping(t.Context()) != nil { // until the test binary's own limit
	}
	mustInsert(t, s, record(2))
	if err := s.Ready(); err != nil {
		t.Errorf("store is back: Ready() = %v", err)
	}
	if n := count(t, s, []records.Record{record(1), record(2)}); n != 2 {
		t.Errorf("%d of 2 records after the outage", n)
	}
}

// A program that only asks whether the store is ready sees it come; the driver alone would look
// every hour here.
func TestReady(t *testing.T) {
	addr := fmt.Sprintf("127.0.0.1:%d", stagetest.FreePort(t))
	s := open(t, "mongodb://"+addr+"/?heartbeatFrequencyMS=3600000")
	stagetest.Eventually(t, "the store is missed", func() bool { return strings.Contains(fmt.Sprint(s.Ready()), "refused") })
	store, err := embedded.StartStore(t.TempDir(), addr, quiet)
	stagetest.OK(t, err)
	defer store.Close()
	stagetest.Eventually(t, "the store is seen", func() bool { return s.Ready() == nil })
}

func wantDown(t *testing.T, what string, s *records.Store) {
	t.Helper()
	var calls sync.WaitGroup
	for name, call := range map[string]func() error{
		"Ping":       func() error { return s.Ping(t.Context()) },
		"InsertMany": func() error { return s.InsertMany(t.Context(), []records.Record{record(1), record(2)})[1] },
		"FindByIDs":  func() error { _, err := s.FindByIDs(t.Context(), []string{"ev-1", "ev-2"}); return err },
		"Newest":     func() error { _, _, err := s.Newest(t.Context(), "ada@example.com"); return err },
	} {
		calls.Go(func() {
			if err := call(); !records.Down(err) {
				t.Errorf("a store that %s: Down(%s = %v) = false", what, name, err)
			}
		})
	}
	calls.Wait()
	if s.Ready() == nil {
		t.Errorf("a store that %s: Ready() = nil", what)
	}
}
