// Package users answers with an address's profile and its history of submissions. It reads both
// from MongoDB at the same time and caches them until the address submits again. It shows addresses
// and places, so it is internal; the public service is web-api.
package users

import (
	"context"
	"errors"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/services/internal/jsonapi"
)

// Name is the service's and its stage's name.
const Name = "users"

// Settings are the operator's settings. Programs embed them in their configuration.
type Settings struct {
	UsersToken string `env:"USERS_TOKEN" secret:"yes" help:"the token that requests to users must carry, as Authorization: Bearer …; unset: no token is needed"`
}

// Store has the submissions; [records.Store] is one.
type Store interface {
	// Profile returns the profile of email: the zero Profile if there is no record of it.
	Profile(ctx context.Context, email string) (records.Profile, error)
	// History returns up to limit records of email after place, newest first.
	History(ctx context.Context, email string, place records.Place, limit int) ([]records.Record, error)
	// FindByIDs returns the records that the events have, by event ID.
	FindByIDs(ctx context.Context, ids []string) (map[string]records.Record, error)
	// Ready returns nil while the store is there.
	Ready() error
}

type Deps struct {
	jsonapi.Deps
	Settings
	Store Store
}

// Run answers requests and works on user:email until ctx ends, then drains both and returns nil. It
// waits while Redis or the store is away. Without the cache it answers more slowly.
func Run(ctx context.Context, d Deps) error {
	u := New(d.Cache, d.Store)
	s, err := d.Broker.New(d.Tuning.Apply(stage.Config{
		Name:     Name,
		In:       event.UserEmail,
		Optional: true,
		Probe:    d.Cache.Ping,
	}), stage.Each(u.Handle))
	if err != nil {
		return errors.Join(err, d.Listener.Close())
	}
	d.Admin.Registry().MustRegister(u.pages, u.reads, u.seconds)
	return d.Serve(ctx, s, u.Handler(d.UsersToken, d.Log), d.Store.Ready)
}
