package records

import (
	"context"
	"errors"
	"fmt"

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
	_, err := s.users.InsertMany(limited, records, options.InsertMany().SetOrdered(false))
	if err == nil {
		return errs
	}
	var bulk mongo.BulkWriteException
	answered := errors.As(err, &bulk) && len(bulk.WriteErrors) > 0
	switch {
	case answered && bulk.WriteConcernError == nil:
		for _, we := range bulk.WriteErrors {
			if we.Index < 0 || we.Index >= len(errs) || sameRecord(we.WriteError) {
				continue
			}
			errs[we.Index] = fmt.Errorf("insert record %s: %w", records[we.Index].ID, mark(we.WriteError))
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
