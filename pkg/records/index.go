package records

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// EnsureIndexes creates the indexes that queries need, if they are missing: {email: 1,
// submitted_at: -1, _id: -1}, where _id orders submissions of the same millisecond, and the same of
// the field mailbox, which few records have. It blocks and retries while the
// store is away, with pauses of up to 15 s. The error is that of ctx, or one that no retry can fix.
func (s *Store) EnsureIndexes(ctx context.Context, log *slog.Logger) error {
	indexes := []mongo.IndexModel{{Keys: byTime("email")}, {
		Keys:    byTime("mailbox"),
		Options: options.Index().SetPartialFilterExpression(bson.D{{Key: "mailbox", Value: bson.D{{Key: "$exists", Value: true}}}}),
	}}
	for pause := 250 * time.Millisecond; ; pause = min(2*pause, 15*time.Second) {
		single := false
		users, err := s.collection(ctx)
		if err == nil {
			single, err = s.single.better(ctx, users.Database())
		}
		if single { // FerretDB v1 has no partial indexes, and uses none but that of _id
			indexes = indexes[:1]
		}
		if err == nil {
			_, err = users.Indexes().CreateMany(ctx, indexes)
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !Down(err):
			return fmt.Errorf("create index of %s: %w", Collection, err)
		}
		log.Info("waiting for the store to create its indexes", "again in", pause.String(), "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// byTime are the keys of an index of field, in the order that a history has.
func byTime(field string) bson.D {
	return bson.D{{Key: field, Value: 1}, {Key: "submitted_at", Value: -1}, {Key: "_id", Value: -1}}
}
