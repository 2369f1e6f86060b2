package jsonapi

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"

	"golang.org/x/sync/errgroup"

	"github.com/milepost/milepost/pkg/cache"
	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/program"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/telemetry"
)

// Config is the environment of a service with a cache and a stage, beside its own settings.
type Config struct {
	config.Broker
	config.CacheRedis
}

// Deps are what such a service needs.
type Deps struct {
	Broker   *stage.Broker
	Cache    *cache.Client
	Listener net.Listener // for requests; Serve closes it
	Hosts    config.Hosts // names that it answers to
	Tuning   config.Tuning
	Log      *slog.Logger
	Admin    *telemetry.Admin
}

// Run opens what c describes, calls run, and closes it. run must close the listener.
func Run(p *program.Process, c Config, listen config.Address, run func(Deps) error) error {
	listener, err := program.Listen("LISTEN", listen)
	if err != nil {
		return err
	}
	broker, err := p.Open(c.Broker)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	answers := cache.Open(c.CacheOptions(c.Redis), string(c.KeyPrefix), p.Log)
	p.Admin.RedisPool("cache", answers.Pool)
	err = run(Deps{broker, answers, listener, p.Hosts, c.Tuning, p.Log, p.Admin})
	return errors.Join(err, answers.Close(), broker.Close())
}

// Serve answers requests with h and works on s until ctx ends, then drains both and returns nil.
// The service is ready if ready returns nil, also while the stage waits: requests are answered.
func (d Deps) Serve(ctx context.Context, s *stage.Stage, h http.Handler, ready func() error) error {
	d.Admin.WatchNote(s.Name(), func() (note string, err error) {
		if err := ready(); err != nil {
			return "", err
		}
		if err := s.Ready(); err != nil {
			return "answering requests; the stage: " + err.Error(), nil
		}
		return "", nil
	})
	guard := &telemetry.HostGuard{Hosts: d.Hosts, Log: d.Log}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return program.Serve(ctx, d.Listener, d.Admin.Observe(guard.Handler(h), nil), d.Log)
	})
	g.Go(func() error { return s.Run(ctx) })
	return g.Wait()
}
