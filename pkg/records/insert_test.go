package records_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

func three() []records.Record {
	all := make([]records.Record, 3)
	for i := range all {
		all[i] = records.Record{ID: fmt.Sprintf("ev-%d", i), Email: "ada@example.com", SubmittedAt: time.UnixMilli(1).UTC()}
	}
	return all
}

// writeError is what a mongod says of one document of an insert.
func writeError(index int, code int, message string, more ...bson.E) bson.D {
	return append(bson.D{{Key: "index", Value: index}, {Key: "code", Value: code}, {Key: "errmsg", Value: message}}, more...)
}

func duplicate(index int, field string) bson.D {
	return writeError(index, 11000, "E11000 duplicate key error", bson.E{Key: "keyPattern", Value: bson.D{{Key: field, Value: 1}}})
}

func inserted(n int, more ...bson.E) bson.D {
	return append(bson.D{{Key: "ok", Value: 1}, {Key: "n", Value: n}}, more...)
}

func failed(code int, message string, labels ...string) bson.D {
	return bson.D{{Key: "ok", Value: 0}, {Key: "code", Value: code}, {Key: "errmsg", Value: message}, {Key: "errorLabels", Value: labels}}
}

// kind is what a caller does about an error.
func kind(err error) string {
	switch {
	case err == nil:
		return "stored"
	case errors.Is(err, records.ErrRefused):
		return "refused"
	case records.Down(err):
		return "down"
	}
	return "error"
}

// Each record gets its own answer, whatever became of the others.
func TestInsertManyAnswersForEachRecord(t *testing.T) {
	writeErrors := func(all ...bson.D) bson.E { return bson.E{Key: "writeErrors", Value: all} }
	for name, tc := range map[string]struct {
		reply bson.D
		want  [3]string
	}{
		"all stored":              {inserted(3), [3]string{"stored", "stored", "stored"}},
		"one is there already":    {inserted(2, writeErrors(duplicate(1, "_id"))), [3]string{"stored", "stored", "stored"}},
		"an older server says so": {inserted(2, writeErrors(writeError(1, 11000, "E11000 duplicate key error"))), [3]string{"stored", "stored", "stored"}},
		"another unique index":    {inserted(2, writeErrors(duplicate(1, "email"))), [3]string{"stored", "refused", "stored"}},
		"one is invalid":          {inserted(2, writeErrors(writeError(0, 121, "Document failed validation"))), [3]string{"refused", "stored", "stored"}},
		"each something else": {
			inserted(0, writeErrors(duplicate(0, "_id"), writeError(1, 14031, "disk full"), writeError(2, 8000, "?"))),
			[3]string{"stored", "down", "error"},
		},
		"written but not by a majority": {
			inserted(3, bson.E{Key: "writeConcernError", Value: bson.D{{Key: "code", Value: 64}, {Key: "errmsg", Value: "waiting for replication timed out"}}}),
			[3]string{"down", "down", "down"},
		},
		"neither all written nor by a majority": {
			inserted(2, writeErrors(duplicate(1, "_id")),
				bson.E{Key: "writeConcernError", Value: bson.D{{Key: "code", Value: 91}, {Key: "errmsg", Value: "shutting down"}}}),
			[3]string{"down", "down", "down"},
		},
		"not primary":   {failed(10107, "not primary"), [3]string{"down", "down", "down"}},
		"shutting down": {failed(11600, "interrupted at shutdown"), [3]string{"down", "down", "down"}},
		"overloaded":    {failed(462, "try later", "SystemOverloadedError"), [3]string{"down", "down", "down"}},
		"not let in":    {failed(13, "not authorized"), [3]string{"down", "down", "down"}},
		"FerretDB full": {failed(1, "insert: database or disk is full (13)"), [3]string{"down", "down", "down"}},
		"unknown":       {failed(8000, "something odd"), [3]string{"error", "error", "error"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, store := serve(t, func(string, bson.Raw) bson.D { return tc.reply })
			for i, err := range store.InsertMany(t.Context(), three()) {
				if kind(err) != tc.want[i] {
					t.Errorf("record %d: %q (%v); want %q", i, kind(err), err, tc.want[i])
				}
			}
		})
	}
}

// A call that one record spoils for all is made again for each.
func TestInsertManyFindsTheSpoiler(t *testing.T) {
	calls := 0
	_, store := serve(t, func(string, bson.Raw) bson.D {
		switch calls++; calls {
		case 1, 3: // the batch, and the second record alone
			return failed(22, "Invalid BSON")
		default:
			return inserted(1)
		}
	})
	want := [3]string{"stored", "refused", "stored"}
	for i, err := range store.InsertMany(t.Context(), three()) {
		if kind(err) != want[i] {
			t.Errorf("record %d: %q (%v); want %q", i, kind(err), err, want[i])
		}
	}
}

// A large record has a command of its own, and one that is too large for a message does not keep
// the others.
func TestInsertManyLarge(t *testing.T) {
	server, store := serve(t, func(string, bson.Raw) bson.D { return inserted(1) })
	all := three()
	all[0].Lat, all[1].Lat = strings.Repeat("9", 2<<20), strings.Repeat("9", 16<<20)
	want := [3]string{"stored", "refused", "stored"}
	for i, err := range store.InsertMany(t.Context(), all) {
		if kind(err) != want[i] {
			t.Errorf("record %d: %q (%v); want %q", i, kind(err), err, want[i])
		}
	}
	if n := len(server.seen()); n != 2 {
		t.Errorf("%d commands, want one for each record that is not refused", n)
	}
}

// The promise of 201 stands on what the insert asks for.
func TestInsertManyAsksForDurability(t *testing.T) {
	server, store := serve(t, func(string, bson.Raw) bson.D { return inserted(3) })
	stagetest.OK(t, errors.Join(store.InsertMany(t.Context(), three())...))
	for _, doc := range server.seen() {
		concern := doc.Lookup("writeConcern").Document()
		if w, j := concern.Lookup("w").StringValue(), concern.Lookup("j").Boolean(); w != "majority" || !j {
			t.Errorf("writeConcern = %v; want majority and journaled", concern)
		}
		if doc.Lookup("ordered").Boolean() {
			t.Error("the insert is ordered; want unordered")
		}
	}
	if len(server.seen()) != 1 {
		t.Errorf("%d commands; want one insert", len(server.seen()))
	}
}

// MongoDB gets one query for many event IDs.
func TestFindByIDsIsOneQuery(t *testing.T) {
	server, store := serve(t, func(command string, _ bson.Raw) bson.D {
		if command == "buildInfo" {
			return bson.D{{Key: "ok", Value: 1}, {Key: "version", Value: "8.0.0"}}
		}
		return bson.D{{Key: "ok", Value: 1}, {Key: "cursor", Value: bson.D{
			{Key: "id", Value: int64(0)}, {Key: "ns", Value: "milepost.users"}, {Key: "firstBatch", Value: bson.A{three()[1]}},
		}}}
	})
	for range 2 {
		got, err := store.FindByIDs(t.Context(), []string{"ev-0", "ev-1", "ev-2"})
		if err != nil || len(got) != 1 || got["ev-1"] != three()[1] {
			t.Fatalf("FindByIDs = %+v, %v; want ev-1", got, err)
		}
	}
	if n := len(server.seen()); n != 3 {
		t.Errorf("%d commands for two look-ups; want one question what the store is, and a query each", n)
	}
	miles, err := store.Distances(t.Context(), []string{"ev-0", "ev-1", "ev-2"})
	if err != nil || len(miles) != 1 || miles["ev-1"].Miles != three()[1].Miles || !miles["ev-1"].SubmittedAt.Equal(three()[1].SubmittedAt) {
		t.Errorf("Distances = %v, %v; want that of ev-1", miles, err)
	}
	if n := len(server.seen()); n != 4 {
		t.Errorf("%d commands; want one query more for the distances", n-3)
	}
}

// Documents that somebody else made, without a distance or with one that is none, leave the others
// alone.
func TestDistancesOfForeignDocuments(t *testing.T) {
	doc := func(id any, distance ...any) bson.D {
		d := bson.D{{Key: "_id", Value: id}}
		for _, v := range distance {
			d = append(d, bson.E{Key: "distance_from_velocity", Value: v})
		}
		return d
	}
	_, store := serve(t, func(command string, _ bson.Raw) bson.D {
		if command == "buildInfo" {
			return bson.D{{Key: "ok", Value: 1}, {Key: "version", Value: "8.0.0"}}
		}
		return bson.D{{Key: "ok", Value: 1}, {Key: "cursor", Value: bson.D{{Key: "id", Value: int64(0)}, {Key: "ns", Value: "milepost.users"},
			{Key: "firstBatch", Value: bson.A{doc("none"), doc("text", "12"), doc("null", nil), doc(bson.NewObjectID(), 1.5), doc("whole", int32(12)), doc("long", int64(13)), doc("double", 1.5)}},
		}}}
	})
	if r, ok, err := store.Newest(t.Context(), "ada@example.com"); ok || err != nil {
		t.Errorf("Newest = %+v, %v, %v; want none, since it has no distance", r, ok, err)
	}
	got, err := store.Distances(t.Context(), []string{"none", "text", "null", "whole", "long", "double"})
	if want := map[string]records.Distance{"whole": {Miles: 12}, "long": {Miles: 13}, "double": {Miles: 1.5}}; err != nil || !maps.Equal(got, want) {
		t.Errorf("Distances = %v, %v; want %v", got, err, want)
	}
}

func TestDown(t *testing.T) {
	if records.Down(nil) || records.Down(context.Canceled) || records.Down(fmt.Errorf("x: %w", records.ErrRefused)) {
		t.Error("Down is true of nil, a cancelled call or a refused record")
	}
	if !records.Down(mongo.CommandError{Wrapped: cleared{}}) {
		t.Error("Down is false for a connection that another call's failure closed")
	}
	if !records.Down(fmt.Errorf("x: %w", context.DeadlineExceeded)) {
		t.Error("Down is false of a call that took too long")
	}
}

func TestOpenKeepsPasswords(t *testing.T) {
	for _, url := range []string{"mongodb://ada:pa%ss@127.0.0.1/", "mongodb://ada:pass@127.0.0.1:port/", "mongodb://ada:pass@127.0.0.1/?w=x&tls=maybe"} {
		if _, err := records.Open(url, "milepost", 0); err == nil {
			t.Errorf("Open(%q) = nil error", url)
		} else if strings.Contains(err.Error(), "pa%ss") || strings.Contains(err.Error(), "pass") {
			t.Errorf("Open(%q) = %q, which tells the password", url, err)
		}
	}
}

// cleared is what the driver returns for a connection that it closed because another one failed.
type cleared struct{}

func (cleared) Error() string   { return "connection pool was cleared" }
func (cleared) Retryable() bool { return true }
