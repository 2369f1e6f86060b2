// Package users answers who submitted what: an address' profile and its history, read from MongoDB at the same time and
// cached until the address submits again. It is internal, since it shows addresses and places; the public door is web-api.
//
// What other systems call a user's orders are submissions here.
package users

import (
	"context"
	"errors"
	"log/slog"
	"net"

	"golang.org/x/sync/errgroup"

	"github.com/milepost/milepost/pkg/cache"
	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/program"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/telemetry"
)

// Name is the service's and its stage's name.
const Name = "users"

// Settings are what an operator sets. Programs embed them in their configuration.
type Settings struct {
	UsersToken string `env:"USERS_TOKEN" secret:"yes" help:"the token that requests to users carry, as Authorization: Bearer …; unset: none is asked for"`
}

// Store is where submissions are found; [records.Store] is one.
type Store interface {
	// Profile returns what is known of email, and false if there is no record of it.
	Profile(ctx context.Context, email string) (records.Profile, bool, error)
	// History returns up to limit records of email, newest first, from after the record at place.
	History(ctx context.Context, email string, place records.Place, limit int) ([]records.Record, error)
	// FindByIDs returns those of the events' records that are there, by event ID.
	FindByIDs(ctx context.Context, ids []string) (map[string]records.Record, error)
	// Ready is nil while the store is there.
	Ready() error
}

// Deps are what the service needs.
type Deps struct {
	Broker   *stage.Broker
	Cache    *cache.Client
	Store    Store
	Listener net.Listener // where requests are answered; Run closes it
	Settings Settings
	Tuning   config.Tuning
	Log      *slog.Logger     // default: slog.Default()
	Admin    *telemetry.Admin // may be nil
}

// Run answers requests and works on user:email until ctx ends, then drains both and returns nil. It waits for a Redis and a
// store that are not there; without the cache requests are answered more slowly.
func Run(ctx context.Context, d Deps) error {
	if d.Log == nil {
		d.Log = slog.Default()
	}
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
	if r := d.Admin.Registry(); r != nil {
		r.MustRegister(u)
	}
	d.Admin.WatchNote(Name, func() (note string, err error) {
		if err := d.Store.Ready(); err != nil {
			return "", err
		}
		if err := s.Ready(); err != nil { // requests are answered all the same
			return "answering requests; the stage: " + err.Error(), nil
		}
		return "", nil
	})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return program.Serve(ctx, d.Listener, d.Admin.Observe(u.Handler(d.Settings.UsersToken, d.Log), nil), d.Log)
	})
	g.Go(func() error { return s.Run(ctx) })
	return g.Wait()
}
