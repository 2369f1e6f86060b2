package records

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// FindByIDs returns the records of the event IDs that have one, by ID.
func (s *Store) FindByIDs(ctx context.Context, ids []string) (map[string]Record, error) {
	docs, err := s.find(ctx, ids, options.Find())
	found := make(map[string]Record, len(docs))
	for _, doc := range docs {
		var r Record
		if err := bson.Unmarshal(doc, &r); err != nil {
			return nil, fmt.Errorf("find records: %w", err)
		}
		found[r.ID] = r
	}
	return found, err
}

// Distance is what a line needs of a record.
type Distance struct {
	Miles       float64
	SubmittedAt time.Time // the zero Time if the document does not say
}

// Distances returns the distances of the event IDs that have a record, by ID. It costs the store
// and the driver about half of what whole records cost. A document without a distance, which
// another program must have stored, is skipped.
func (s *Store) Distances(ctx context.Context, ids []string) (map[string]Distance, error) {
	docs, err := s.find(ctx, ids, options.Find().SetProjection(bson.D{{Key: distance, Value: 1}, {Key: "submitted_at", Value: 1}}))
	found := make(map[string]Distance, len(docs))
	for _, doc := range docs {
		id, ok := doc.Lookup("_id").StringValueOK()
		d := Distance{}
		var number bool
		d.Miles, number = doc.Lookup(distance).AsFloat64OK()
		if at, known := doc.Lookup("submitted_at").TimeOK(); known {
			d.SubmittedAt = at
		}
		if ok && number {
			found[id] = d
		}
	}
	return found, err
}

// findMost is the number of event IDs in one query. Some stores compare each document with the
// whole list, so lists are short.
const findMost = 32

// find returns the documents of the event IDs that have one.
//
// MongoDB gets queries with $in. FerretDB v1 reads the whole collection for $in but uses the index
// for one _id, so it gets one query per ID.
func (s *Store) find(ctx context.Context, ids []string, o *options.FindOptionsBuilder) (docs []bson.Raw, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	ctx, cancel := s.limited(ctx)
	defer cancel()
	users, err := s.collection(ctx)
	if err != nil {
		return nil, fmt.Errorf("find records: %w", err)
	}
	most := findMost
	if len(ids) > 1 {
		single, err := s.single.better(ctx, users.Database())
		if err != nil {
			return nil, fmt.Errorf("find records: %w", err)
		}
		if single {
			most = 1
		}
	}
	for chunk := range slices.Chunk(ids, most) {
		var which any = chunk[0]
		if len(chunk) > 1 {
			which = bson.D{{Key: "$in", Value: chunk}}
		}
		o.SetBatchSize(int32(len(chunk)) + 1) // one reply holds all documents
		var some []bson.Raw
		cursor, err := users.Find(ctx, bson.D{{Key: "_id", Value: which}}, o)
		if err == nil {
			err = cursor.All(ctx, &some)
		}
		if err != nil {
			return nil, fmt.Errorf("find records: %w", err)
		}
		docs = append(docs, some...)
	}
	return docs, nil
}

// lookup remembers which kind of query the store answers faster. The zero value has not asked yet.
type lookup struct{ single atomic.Pointer[bool] }

// better reports whether many queries for one ID are faster than one query for many.
func (l *lookup) better(ctx context.Context, db *mongo.Database) (bool, error) {
	if known := l.single.Load(); known != nil {
		return *known, nil
	}
	var info struct {
		FerretDB string `bson:"ferretdbVersion"`
	}
	if err := db.RunCommand(ctx, bson.D{{Key: "buildInfo", Value: 1}}).Decode(&info); err != nil {
		return false, err
	}
	single := info.FerretDB != ""
	l.single.Store(&single)
	return single, nil
}
