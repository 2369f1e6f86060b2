package records

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// EnsureIndexes creates the index that queries need, if it is missing: {email: 1, submitted_at: -1,
// _id: -1}, where _id orders submissions of the same millisecond. It blocks and retries while the
// store is away, with pauses of up to 15 s. The error is that of ctx, or one that no retry can fix.
func (s *Store) EnsureIndexes(ctx context.Context, log *slog.Logger) error {
	index := mongo.IndexModel{Keys: bson.D{{Key: "email", Value: 1}, {Key: "submitted_at", Value: -1}, {Key: "_id", Value: -1}}}
	for pause := 250 * time.Millisecond; ; pause = min(2*pause, 15*time.Second) {
		_, err := s.users.Indexes().CreateOne(ctx, index)
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
