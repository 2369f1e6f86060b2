package records

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// EnsureIndexes makes the indexes that look-ups need, if they are not there: {email: 1, submitted_at: -1, _id: -1}, where
// _id gives submissions of one millisecond an order to page by. While the store is away it tries again, with a growing
// pause of 15 s at most, until ctx ends. It returns nil once they are there, ctx's error, or what waiting cannot mend.
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
			return fmt.Errorf("make index of %s: %w", Collection, err)
		}
		log.Info("waiting for the store to make its indexes", "again in", pause.String(), "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
