package records

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"golang.org/x/sync/errgroup"
)

// FindByIDs returns the records of the event IDs that are there, by ID.
//
// MongoDB gets one query with $in. FerretDB v1 answers $in by reading the whole collection, and equality of _id from
// the index, so it gets one small query per ID, a few at a time.
func (s *Store) FindByIDs(ctx context.Context, ids []string) (map[string]Record, error) {
	ctx, cancel := s.limited(ctx)
	defer cancel()
	single := len(ids) == 1
	if len(ids) > 1 {
		var err error
		if single, err = s.single.better(ctx, s.users.Database()); err != nil {
			return nil, fmt.Errorf("find records: %w", err)
		}
	}
	find := s.findIn
	if single {
		find = s.findEach
	}
	found, err := find(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("find records: %w", err)
	}
	return found, nil
}

func (s *Store) findIn(ctx context.Context, ids []string) (map[string]Record, error) {
	found := make(map[string]Record, len(ids))
	if len(ids) == 0 {
		return found, nil
	}
	cursor, err := s.users.Find(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}})
	if err != nil {
		return nil, err
	}
	var all []Record
	if err := cursor.All(ctx, &all); err != nil {
		return nil, err
	}
	for _, r := range all {
		found[r.ID] = r
	}
	return found, nil
}

func (s *Store) findEach(ctx context.Context, ids []string) (map[string]Record, error) {
	var mu sync.Mutex
	found := make(map[string]Record, len(ids))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, id := range ids {
		g.Go(func() error {
			var r Record
			err := s.users.FindOne(ctx, bson.D{{Key: "_id", Value: id}}).Decode(&r)
			if errors.Is(err, mongo.ErrNoDocuments) {
				return nil
			}
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			found[id] = r
			return nil
		})
	}
	return found, g.Wait()
}

// lookup remembers which kind of look-up the store is good at. The zero value has not asked yet.
type lookup struct{ known atomic.Int32 }

const (
	byIn   = 1
	byEach = 2
)

// better reports whether several look-ups by one ID each beat one by several.
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
