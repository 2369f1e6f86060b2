package records

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// Limits of one insert command, in bytes of texts, far below those of a message (16 MB, 100,000
// documents).
const (
	commandBytes = 1 << 20
	recordBytes  = 15 << 20 // of a record, which has a command of its own
)

// InsertMany stores records, unordered, in one round trip unless they are large, and returns one
// error per record. It is nil if a majority of the store's members has the record in its journal,
// or if its event ID was stored before; else [Down] and [ErrRefused] tell what kind of error it is.
// An error of one record does not affect the others.
func (s *Store) InsertMany(ctx context.Context, records []Record) []error {
	size, n := 0, len(records)
	for _, r := range records {
		size += len(r.ID) + len(r.Email) + len(r.Lat) + len(r.Long)
	}
	switch {
	case n == 0:
		return nil
	case n > 1 && size > commandBytes:
		return append(s.InsertMany(ctx, records[:n/2]), s.InsertMany(ctx, records[n/2:])...)
	case size > recordBytes:
		return []error{fmt.Errorf("insert record %s: %w: it has %d bytes", records[0].ID, ErrRefused, size)}
	}
	errs := make([]error, n)
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
			if we.Index < 0 || we.Index >= n || sameRecord(we) {
				continue
			}
			errs[we.Index] = fmt.Errorf("insert record %s: %w", records[we.Index].ID, mark(we))
		}
	case n > 1 && !answered && !Down(err) && ctx.Err() == nil:
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

// insert stores records with one command, in half the processor time of the driver's InsertMany,
// which decodes each document again to find its _id.
func (s *Store) insert(ctx context.Context, records []Record) error {
	users, err := s.collection(ctx)
	if err != nil {
		return err
	}
	return users.Database().RunCommand(ctx, bson.D{
		{Key: "insert", Value: Collection}, {Key: "documents", Value: records}, {Key: "ordered", Value: false},
		{Key: "writeConcern", Value: bson.D{{Key: "w", Value: durable.W}, {Key: "j", Value: durable.Journal}}},
	}).Err()
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
