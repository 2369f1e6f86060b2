// Package standalone runs the whole pipeline in one process: the services' own Run functions,
// over an embedded Redis and an embedded document store or over real ones.
package standalone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/geodesy"
	"github.com/milepost/milepost/pkg/program"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
	"github.com/milepost/milepost/services/db"
	"github.com/milepost/milepost/services/distance"
	"github.com/milepost/milepost/services/email"
	"github.com/milepost/milepost/services/users"
	"github.com/milepost/milepost/services/weather"
	webapi "github.com/milepost/milepost/services/web-api"
)

type Config struct {
	config.Tuning
	config.Office
	webapi.Settings
	Email   email.Settings
	Users   users.Settings
	Weather weather.Settings
	config.CacheRedis
	Stores
}

// drainMost is how long the pipeline may take to finish its events after Ctrl-C.
const drainMost = 10 * time.Second

// Run runs the stores and all services, and prints to p.Stdout where to find them. When ctx ends
// it stops the page, lets the stages finish what is in the embedded Redis (10 s at most), then
// stops the stages and the stores. If one service fails, all stop.
func Run(ctx context.Context, cfg Config, p *program.Process) (err error) {
	office, err := geodesy.Degrees(cfg.OfficeLat, cfg.OfficeLong)
	if err != nil {
		return err
	}
	o, err := open(ctx, cfg, p)
	defer func() { err = errors.Join(err, o.close()) }()
	if err != nil {
		return err
	}
	live, stop := context.WithCancel(context.WithoutCancel(ctx)) // the page ends with ctx, the stages later
	defer stop()
	services, live := errgroup.WithContext(live)
	start := func(name string, run func() error) {
		services.Go(func() error {
			if err := run(); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	start("distance", func() error {
		return distance.Run(live, distance.Deps{Broker: o.broker, Office: office, Tuning: cfg.Tuning, Admin: p.Admin})
	})
	start("db", func() error {
		return db.Run(live, db.Deps{Broker: o.broker, Store: o.docs, Tuning: cfg.Tuning, Log: p.Log, Admin: p.Admin})
	})
	start("email", func() error {
		return email.Run(live, email.Deps{
			Broker: o.broker, Store: o.docs, Office: cfg.OfficeName, Settings: cfg.Email,
			Tuning: cfg.Tuning, Stdout: p.Stdout, Log: p.Log, Admin: p.Admin,
		})
	})
	start(users.Name, func() error {
		return users.Run(live, users.Deps{Deps: o.reads(o.users, cfg, p), Settings: cfg.Users, Store: o.docs})
	})
	start(weather.Name, func() error {
		return weather.Run(live, weather.Deps{Deps: o.reads(o.weather, cfg, p), Settings: cfg.Weather})
	})
	start(webapi.Name, func() error {
		defer stop()
		serving, stopServing := context.WithCancel(live)
		defer stopServing()
		defer context.AfterFunc(ctx, stopServing)()
		err := webapi.Run(serving, webapi.Deps{
			Broker: o.broker, Listener: o.page, Hosts: p.Hosts, Office: webapi.Office{Name: cfg.OfficeName, Point: office},
			Settings: cfg.Settings, Admin: p.Admin, Log: p.Log,
			Reads: webapi.Reads{
				UsersURL: httpURL(o.users), UsersToken: cfg.Users.UsersToken, WeatherURL: httpURL(o.weather),
			},
		})
		if err == nil && o.stores.redis != nil { // a Redis elsewhere keeps the events for the next run
			finish(live, o.broker, p.Log)
		}
		return err
	})
	tell(p.Stdout, cfg, p.StatusPage, o)
	return services.Wait()
}

func httpURL(l net.Listener) config.HTTPURL { return config.HTTPURL("http://" + l.Addr().String()) }

// finish waits until the stages have settled every entry, drainMost at most.
func finish(ctx context.Context, b *stage.Broker, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, drainMost)
	defer cancel()
	for {
		left := 0
		for _, channel := range []string{event.RawInput, event.CalculatedDistance, event.UserEmail} {
			status, err := inspect.New(b).Status(ctx, channel)
			if err != nil {
				log.Warn("stopping without knowing what is left in the pipeline", "err", err)
				return
			}
			left += status.Due
			for _, g := range status.Groups {
				if !g.Optional {
					left += g.Backlog
				}
			}
		}
		if left == 0 {
			return
		}
		select {
		case <-ctx.Done():
			log.Warn("stopping with events unfinished", "events", left)
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}
