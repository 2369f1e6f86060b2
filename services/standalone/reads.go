package standalone

import (
	"context"
	"errors"
	"net"

	"github.com/milepost/milepost/pkg/cache"
	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/program"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/services/users"
	"github.com/milepost/milepost/services/weather"
	webapi "github.com/milepost/milepost/services/web-api"
)

// reads are the services that answer questions: users and weather, each on a port of its own that web-api asks.
type reads struct {
	users, weather net.Listener
	answers        *cache.Client
}

// openReads opens the ports that the two programs have by themselves, or any others if those are taken.
func openReads(cfg Config, redisURL config.RedisURL, p *program.Process) (*reads, error) {
	u, err := listenNear("127.0.0.1:8001")
	if err != nil {
		return nil, err
	}
	w, err := listenNear("127.0.0.1:8002")
	if err != nil {
		return nil, errors.Join(err, u.Close())
	}
	answers := cache.Open(cfg.CacheOptions(config.Redis{RedisURL: redisURL}), p.Log)
	p.Admin.RedisPool("cache", answers.Pool)
	return &reads{u, w, answers}, nil
}

func listenNear(addr string) (net.Listener, error) {
	if l, err := net.Listen("tcp", addr); err == nil {
		return l, nil
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

func (r *reads) runUsers(ctx context.Context, cfg Config, broker *stage.Broker, docs *records.Store, p *program.Process) error {
	return users.Run(ctx, users.Deps{
		Broker: broker, Cache: r.answers, Store: docs, Listener: r.users, Settings: cfg.Users, Tuning: cfg.Tuning, Log: p.Log, Admin: p.Admin,
	})
}

func (r *reads) runWeather(ctx context.Context, cfg Config, broker *stage.Broker, p *program.Process) error {
	return weather.Run(ctx, weather.Deps{
		Broker: broker, Cache: r.answers, Listener: r.weather, Settings: cfg.Weather, Tuning: cfg.Tuning, Log: p.Log, Admin: p.Admin,
	})
}

// forPage is what web-api must know to ask them.
func (r *reads) forPage(cfg Config) webapi.Reads {
	return webapi.Reads{
		UsersURL: config.HTTPURL("http://" + r.users.Addr().String()), UsersToken: cfg.Users.UsersToken,
		WeatherURL: config.HTTPURL("http://" + r.weather.Addr().String()),
	}
}
