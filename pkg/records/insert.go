package records

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// InsertMany stores records in one round trip, unordered, and returns one error per record: nil when a majority of the
// store's members has it in its journal or when its event ID was there already, else an error that [Down] or
// [ErrRefused] tells the kind of. An error of one record leaves the others alone.
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
		// The store refused the call as a whole; one record may have spoilt it for all. Find out which.
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

// What one command inserts, far from what a message may hold (16 MB, 100,000 documents).
const (
	commandMost  = 1000
	commandBytes = 1 << 20 // of texts
)

// insert stores records with one command, which takes the processor half the time of the driver's InsertMany: that decodes
// each document again to find its _id. What is many or large is left to the driver, which cuts it to size and knows what is
// too large for the store.
func (s *Store) insert(ctx context.Context, records []Record) error {
	size := 0
	for _, r := range records {
		size += len(r.ID) + len(r.Email) + len(r.Lat) + len(r.Long)
	}
	if len(records) <= commandMost && size <= commandBytes {
		return s.users.Database().RunCommand(ctx, bson.D{
			{Key: "insert", Value: Collection}, {Key: "documents", Value: records}, {Key: "ordered", Value: false},
			{Key: "writeConcern", Value: bson.D{{Key: "w", Value: durable.W}, {Key: "j", Value: durable.Journal}}},
		}).Err()
	}
	_, err := s.users.InsertMany(ctx, records, options.InsertMany().SetOrdered(false))
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

// sameRecord reports whether we says that the record's own event ID is there already. A duplicate in an index that
// somebody added is another matter: the record is not stored.
func sameRecord(we mongo.WriteError) bool {
	if !mongo.IsDuplicateKeyError(mongo.WriteException{WriteErrors: mongo.WriteErrors{we}}) {
		return false
	}
	keys, ok := we.Raw.Lookup("keyPattern").DocumentOK()
	if !ok {
		return true // FerretDB does not say; it has no index of ours but _id that could be violated
	}
	_, err := keys.LookupErr("_id")
	return err == nil
}
