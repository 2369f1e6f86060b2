package standalone

import (
	"context"
	"errors"
	"net"
	"slices"

	"github.com/milepost/milepost/pkg/cache"
	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/program"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/services/internal/jsonapi"
)

// opened is what the services share, and the ports that they serve.
type opened struct {
	page, users, weather net.Listener
	stores               *stores
	broker               *stage.Broker
	docs                 *records.Store
	answers              *cache.Client

	closers []func() error
}

// open opens everything. The caller closes the result, also after an error.
func open(ctx context.Context, cfg Config, p *program.Process) (o *opened, err error) {
	o = &opened{}
	if o.page, err = program.Listen("LISTEN", cfg.Listen); err != nil {
		return o, err
	}
	o.later(o.page.Close)
	if o.stores, err = cfg.Stores.open(ctx, p.Log); err != nil {
		return o, err
	}
	o.later(o.stores.close)
	redis := config.Redis{RedisURL: o.stores.redisURL, KeyPrefix: cfg.KeyPrefix}
	if o.broker, err = p.Open(config.Broker{Redis: redis, Tuning: cfg.Tuning}); err != nil {
		return o, err
	}
	o.later(o.broker.Close)
	if o.docs, err = records.Open(o.stores.mongoURL, string(cfg.MongoDatabase), 0); err != nil {
		return o, err
	}
	o.later(func() error { return o.docs.Close(context.WithoutCancel(ctx)) })
	p.Admin.Registry().MustRegister(o.docs)
	p.Admin.Watch("mongo", o.docs.Ready)
	o.answers = cache.Open(cfg.CacheOptions(redis), string(cfg.KeyPrefix), p.Log)
	o.later(o.answers.Close)
	p.Admin.RedisPool("cache", o.answers.Pool)
	if o.users, err = listenNear("127.0.0.1:8001"); err != nil {
		return o, err
	}
	o.later(o.users.Close)
	if o.weather, err = listenNear("127.0.0.1:8002"); err != nil {
		return o, err
	}
	o.later(o.weather.Close)
	return o, nil
}

// reads are the needs of a service that answers requests on l.
func (o *opened) reads(l net.Listener, cfg Config, p *program.Process) jsonapi.Deps {
	return jsonapi.Deps{Broker: o.broker, Cache: o.answers, Listener: l, Hosts: p.Hosts, Tuning: cfg.Tuning, Log: p.Log, Admin: p.Admin}
}

// listenNear listens on addr or, if that is taken, on any free port.
func listenNear(addr string) (net.Listener, error) {
	if l, err := net.Listen("tcp", addr); err == nil {
		return l, nil
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

func (o *opened) later(f func() error) { o.closers = append(o.closers, f) }

// close closes everything in reverse order. A service has closed its own listener before.
func (o *opened) close() (err error) {
	for _, f := range slices.Backward(o.closers) {
		if e := f(); !errors.Is(e, net.ErrClosed) {
			err = errors.Join(err, e)
		}
	}
	return err
}
