package embedded_test

import (
	"context"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/services/standalone/embedded"
)

// A look-up by event ID reads an index, also after a restart, and not the whole collection.
func TestIndexIDs(t *testing.T) {
	dir := t.TempDir()
	store, err := embedded.StartStore(dir, "127.0.0.1:0", quiet)
	stagetest.OK(t, err)
	if plan := lookupPlan(t, store); strings.Contains(plan, "milepost_id") {
		t.Fatalf("plan before IndexIDs = %s; want no index of ours", plan)
	}
	for range 2 { // the second finds everything made
		if err := store.IndexIDs(t.Context(), "milepost", records.Collection); err != nil {
			t.Fatalf("IndexIDs = %v", err)
		}
	}
	wantIndexed(t, store)
	stagetest.OK(t, store.Close())
	wantIndexed(t, startStore(t, dir))
}

func wantIndexed(t *testing.T, store *embedded.Store) {
	t.Helper()
	s := open(t, store.URL())
	mustInsert(t, s, record(1))
	mustInsert(t, s, record(1)) // a repeat is still one
	_ = s.Close(t.Context())
	if plan := lookupPlan(t, store); !strings.Contains(plan, "SEARCH") || !strings.Contains(plan, "milepost_id") {
		t.Errorf("plan of a look-up by _id = %s; want a search of the index", plan)
	}
}

// lookupPlan is how SQLite would look a document up by _id.
func lookupPlan(t *testing.T, store *embedded.Store) string {
	t.Helper()
	c, err := mongo.Connect(options.Client().ApplyURI(store.URL()))
	stagetest.OK(t, err)
	defer func() { _ = c.Disconnect(context.WithoutCancel(t.Context())) }()
	plan, err := c.Database("milepost").RunCommand(t.Context(), bson.D{{Key: "explain", Value: bson.D{
		{Key: "find", Value: records.Collection}, {Key: "filter", Value: bson.D{{Key: "_id", Value: "ev-1"}}},
	}}}).Raw()
	if err != nil {
		t.Fatalf("explain: %v", err)
	}
	return plan.String()
}
