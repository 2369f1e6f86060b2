package records

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"
)

// Profile summarizes the records of a mailbox.
type Profile struct {
	Submissions int
	First, Last time.Time // submitted
}

// Profile returns the profile of the mailbox that email names, the zero Profile if it has no
// record.
func (s *Store) Profile(ctx context.Context, email string) (Profile, error) {
	ctx, cancel := s.limited(ctx)
	defer cancel()
	// FerretDB v1 lacks $min and $max in $group, so there are three queries. Each reads one
	// range of the index.
	users, err := s.collection(ctx)
	if err != nil {
		return Profile{}, err
	}
	var p Profile
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		n, err := users.CountDocuments(ctx, of(email))
		p.Submissions = int(n)
		return err
	})
	for order, at := range map[int]*time.Time{1: &p.First, -1: &p.Last} {
		g.Go(func() error {
			var r Record
			err := users.FindOne(ctx, of(email), options.FindOne().
				SetSort(bson.D{{Key: "submitted_at", Value: order}, {Key: "_id", Value: order}}).
				SetProjection(bson.D{{Key: "submitted_at", Value: 1}})).Decode(&r)
			if errors.Is(err, mongo.ErrNoDocuments) {
				return nil
			}
			*at = r.SubmittedAt
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return Profile{}, fmt.Errorf("find profile of an address: %w", err)
	}
	return p, nil
}

// Place is the end of a page of a history. The zero value is the beginning of the history.
type Place struct {
	At time.Time // submitted
	ID string
}

// History returns up to limit records of the mailbox that email names, after place, newest first.
func (s *Store) History(ctx context.Context, email string, place Place, limit int) ([]Record, error) {
	ctx, cancel := s.limited(ctx)
	defer cancel()
	users, err := s.collection(ctx)
	if err != nil {
		return nil, err
	}
	filter := of(email)
	if place != (Place{}) {
		filter = bson.D{
			{Key: "submitted_at", Value: bson.D{{Key: "$lte", Value: place.At}}}, // for the index
			{Key: "$and", Value: bson.A{filter, bson.D{{Key: "$or", Value: bson.A{
				bson.D{{Key: "submitted_at", Value: bson.D{{Key: "$lt", Value: place.At}}}},
				bson.D{{Key: "_id", Value: bson.D{{Key: "$lt", Value: place.ID}}}},
			}}}}},
		}
	}
	cursor, err := users.Find(ctx, filter, options.Find().
		SetSort(bson.D{{Key: "submitted_at", Value: -1}, {Key: "_id", Value: -1}}).SetLimit(int64(limit)))
	if err != nil {
		return nil, fmt.Errorf("find history of an address: %w", err)
	}
	var all []Record
	if err := cursor.All(ctx, &all); err != nil {
		return nil, fmt.Errorf("read history of an address: %w", err)
	}
	return all, nil
}
