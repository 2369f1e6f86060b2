package records

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"
)

// FindByIDs returns the records of the event IDs that have one, by ID.
func (s *Store) FindByIDs(ctx context.Context, ids []string) (map[string]Record, error) {
	found := make(map[string]Record, len(ids))
	err := s.find(ctx, ids, nil, func(doc bson.Raw) error {
		var r Record
		if err := bson.Unmarshal(doc, &r); err != nil {
			return err
		}
		found[r.ID] = r
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// Distances returns the distances in miles of the event IDs that have a record, by ID. It costs the
// store and the driver half of what whole records cost. A document without a distance, which
// another program must have stored, is skipped.
func (s *Store) Distances(ctx context.Context, ids []string) (map[string]float64, error) {
	found := make(map[string]float64, len(ids))
	err := s.find(ctx, ids, bson.D{{Key: distance, Value: 1}}, func(doc bson.Raw) error {
		id, ok := doc.Lookup("_id").StringValueOK()
		miles, number := doc.Lookup(distance).AsFloat64OK()
		if ok && number {
			found[id] = miles
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

const (
	// findMost is the number of event IDs in one query. Some stores compare each document with
	// the whole list, so lists are short.
	findMost = 32
	// findAtOnce is the number of queries at the same time, enough to keep a store busy. One
	// runs in the caller's goroutine: in a new one the stack has to grow for the driver.
	findAtOnce = 2
)

// find calls each with the document of every event ID that has one, with the fields of projection
// (nil: all). It makes one call at a time; doc is valid until each returns.
//
// MongoDB gets queries with $in. FerretDB v1 reads the whole collection for $in but uses the index
// for one _id, so it gets one query per ID.
func (s *Store) find(ctx context.Context, ids []string, projection bson.D, each func(doc bson.Raw) error) error {
	if len(ids) == 0 {
		return nil
	}
	ctx, cancel := s.limited(ctx)
	defer cancel()
	users, err := s.collection(ctx)
	if err != nil {
		return fmt.Errorf("find records: %w", err)
	}
	most := findMost
	if len(ids) > 1 {
		single, err := s.single.better(ctx, users.Database())
		if err != nil {
			return fmt.Errorf("find records: %w", err)
		}
		if single {
			most = 1
		}
	}
	chunks := slices.Collect(slices.Chunk(ids, most))
	var next atomic.Int32
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	queries := func() error {
		for i := int(next.Add(1)); i <= len(chunks); i = int(next.Add(1)) {
			err := findIn(ctx, users, chunks[i-1], projection, func(doc bson.Raw) error {
				mu.Lock()
				defer mu.Unlock()
				return each(doc)
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	for range min(findAtOnce, len(chunks)) - 1 {
		g.Go(queries)
	}
	err = queries()
	if err = cmp.Or(g.Wait(), err); err != nil { // the group's error came first
		return fmt.Errorf("find records: %w", err)
	}
	return nil
}

func findIn(ctx context.Context, users *mongo.Collection, ids []string, projection bson.D, each func(bson.Raw) error) error {
	o := options.Find().SetBatchSize(int32(len(ids)) + 1) // one reply holds all documents
	if projection != nil {
		o.SetProjection(projection)
	}
	var which any = ids[0]
	if len(ids) > 1 {
		which = bson.D{{Key: "$in", Value: ids}}
	}
	cursor, err := users.Find(ctx, bson.D{{Key: "_id", Value: which}}, o)
	if err != nil {
		return err
	}
	defer cursor.Close(ctx)
	for cursor.Next(ctx) {
		if err := each(cursor.Current); err != nil {
			return err
		}
	}
	return cursor.Err()
}

// lookup remembers which kind of query the store answers faster. The zero value has not asked yet.
type lookup struct{ known atomic.Int32 }

const (
	byIn   = 1
	byEach = 2
)

// better reports whether many queries for one ID are faster than one query for many.
func (l *lookup) better(ctx context.Context, db *mongo.Database) (bool, error) {
	if l.known.Load() == 0 {
		var info struct {
			FerretDB string `bson:"ferretdbVersion"`
		}
		if err := db.RunCommand(ctx, bson.D{{Key: "buildInfo", Value: 1}}).Decode(&info); err != nil {
			return false, err
		}
		l.known.Store(byIn)
		if info.FerretDB != "" {
			l.known.Store(byEach)
		}
	}
	return l.known.Load() == byEach, nil
}
