package records

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// InsertMany stores records in one round trip, unordered, and returns one error per record. It is
// nil if a majority of the store's members has the record in its journal, or if its event ID was
// stored before; else [Down] and [ErrRefused] tell what kind of error it is. An error of one record
// does not affect the others.
func (s *Store) InsertMany(ctx context.Context, records []Record) []error {
	errs := make([]error, len(records))
	if len(records) == 0 {
		return errs
	}
	limited, cancel := s.limited(ctx)
	defer cancel()
	err := s.insert(limited, records)
	if err == nil {
		return errs
	}
	var write mongo.WriteException
	answered := errors.As(err, &write) && len(write.WriteErrors) > 0
	switch {
	case answered && write.WriteConcernError == nil:
		for _, we := range write.WriteErrors {
			if we.Index < 0 || we.Index >= len(errs) || sameRecord(we) {
				continue
			}
			errs[we.Index] = fmt.Errorf("insert record %s: %w", records[we.Index].ID, mark(we))
		}
	case len(records) > 1 && !answered && !Down(err) && ctx.Err() == nil:
		// The store refused the whole call, perhaps because of one record. Try each alone.
		for i := range records {
			errs[i] = s.InsertMany(ctx, records[i:i+1])[0]
		}
	default:
		for i, r := range records {
			errs[i] = fmt.Errorf("insert record %s: %w", r.ID, mark(err))
		}
	}
	return errs
}

// Limits of one insert command, far below those of a message (16 MB, 100,000 documents).
const (
	commandMost  = 1000
	commandBytes = 1 << 20 // of texts
)

// insert stores records with one command, in half the processor time of the driver's InsertMany,
// which decodes each document again to find its _id. Many or large records are left to the driver,
// which splits them and knows the store's limits.
func (s *Store) insert(ctx context.Context, records []Record) error {
	users, err := s.collection(ctx)
	if err != nil {
		return err
	}
	size := 0
	for _, r := range records {
		size += len(r.ID) + len(r.Email) + len(r.Lat) + len(r.Long)
	}
	if len(records) <= commandMost && size <= commandBytes {
		return users.Database().RunCommand(ctx, bson.D{
			{Key: "insert", Value: Collection}, {Key: "documents", Value: records}, {Key: "ordered", Value: false},
			{Key: "writeConcern", Value: bson.D{{Key: "w", Value: durable.W}, {Key: "j", Value: durable.Journal}}},
		}).Err()
	}
	_, err = users.InsertMany(ctx, records, options.InsertMany().SetOrdered(false))
	var bulk mongo.BulkWriteException
	if !errors.As(err, &bulk) {
		return err
	}
	same := mongo.WriteException{WriteConcernError: bulk.WriteConcernError, Labels: bulk.Labels}
	for _, we := range bulk.WriteErrors {
		same.WriteErrors = append(same.WriteErrors, we.WriteError)
	}
	return same
}

// sameRecord reports whether we says that the event ID was stored before. After a duplicate in an
// index that somebody added, the record is not stored.
func sameRecord(we mongo.WriteError) bool {
	if !mongo.IsDuplicateKeyError(mongo.WriteException{WriteErrors: mongo.WriteErrors{we}}) {
		return false
	}
	keys, ok := we.Raw.Lookup("keyPattern").DocumentOK()
	if !ok {
		return true // FerretDB does not say, and has no other unique index of ours
	}
	_, err := keys.LookupErr("_id")
	return err == nil
}
