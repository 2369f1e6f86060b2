// Package standalone runs the whole pipeline in one process: the services' own Run functions over an embedded Redis and an
// embedded document store, or over real ones.
package standalone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/geodesy"
	"github.com/milepost/milepost/pkg/program"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
	"github.com/milepost/milepost/services/db"
	"github.com/milepost/milepost/services/distance"
	"github.com/milepost/milepost/services/email"
	"github.com/milepost/milepost/services/users"
	"github.com/milepost/milepost/services/weather"
	webapi "github.com/milepost/milepost/services/web-api"
)

// Config is what the program reads from its environment.
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

// drainMost is how long Ctrl-C lets the pipeline finish what is in it.
const drainMost = 10 * time.Second

// Run starts the stores and then everything else, and tells p.Stdout where things are. When ctx ends it stops the page,
// lets the stages finish what is in the embedded Redis (10 s at most), stops them, and then the stores. The first part
// that fails ends it all.
func Run(ctx context.Context, cfg Config, p *program.Process) (err error) {
	office, err := geodesy.Degrees(cfg.OfficeLat, cfg.OfficeLong)
	if err != nil {
		return err
	}
	page, err := program.Listen("LISTEN", cfg.Listen)
	if err != nil {
		return err
	}
	stores, err := cfg.Stores.open(ctx, p.Log)
	if err != nil {
		return errors.Join(err, page.Close())
	}
	defer func() { err = errors.Join(err, stores.close()) }()
	broker, err := p.Open(config.Broker{Redis: config.Redis{RedisURL: stores.redisURL}, Tuning: cfg.Tuning})
	if err != nil {
		return errors.Join(err, page.Close())
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
	pool := records.NewPool(0)
	docs, err := records.OpenPool(stores.mongoURL, string(cfg.MongoDatabase), pool)
	if err != nil {
		return errors.Join(err, page.Close())
	}
	defer func() { err = errors.Join(err, docs.Close(context.WithoutCancel(ctx))) }()
	p.Admin.Registry().MustRegister(pool)
	p.Admin.Watch("mongo", docs.Ready)
	reads, err := openReads(cfg, stores.redisURL, p)
	if err != nil {
		return errors.Join(err, page.Close())
	}
	defer func() { err = errors.Join(err, reads.answers.Close()) }()

	// The page stops first, the stages when what was submitted is through; one that fails stops them all.
	live, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	parts, live := errgroup.WithContext(live)
	part := func(name string, run func(ctx context.Context) error) {
		parts.Go(func() error {
			if err := run(live); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	part("distance", func(ctx context.Context) error {
		return distance.Run(ctx, distance.Deps{Broker: broker, Office: office, Tuning: cfg.Tuning, Admin: p.Admin})
	})
	part("db", func(ctx context.Context) error {
		return db.Run(ctx, db.Deps{Broker: broker, Store: docs, Tuning: cfg.Tuning, Log: p.Log, Admin: p.Admin})
	})
	part("email", func(ctx context.Context) error {
		return email.Run(ctx, email.Deps{
			Broker: broker, Store: docs, Office: cfg.OfficeName, Settings: cfg.Email,
			Tuning: cfg.Tuning, Stdout: p.Stdout, Log: p.Log, Admin: p.Admin,
		})
	})
	part("users", func(ctx context.Context) error { return reads.runUsers(ctx, cfg, broker, docs, p) })
	part("weather", func(ctx context.Context) error { return reads.runWeather(ctx, cfg, broker, p) })
	part("web-api", func(live context.Context) error {
		serving, stopServing := context.WithCancel(live)
		defer stopServing()
		defer context.AfterFunc(ctx, stopServing)()
		err := webapi.Run(serving, webapi.Deps{
			Broker: broker, Listener: page, Office: webapi.Office{Name: cfg.OfficeName, Point: office},
			Settings: cfg.Settings, Reads: reads.forPage(cfg), Admin: p.Admin, Log: p.Log,
		})
		if err == nil && stores.redis != nil { // a Redis of its own keeps what is left for the next run
			finish(live, broker, p.Log)
		}
		stop()
		return err
	})
	tell(p.Stdout, cfg, page.Addr().String(), p.StatusPage, stores, reads)
	return parts.Wait()
}

// finish waits until every channel is worked off.
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

// tell says where everything is.
func tell(w io.Writer, cfg Config, page, status string, s *stores, r *reads) {
	log := cfg.Email.SentEmails
	if abs, err := filepath.Abs(log); err == nil {
		log = abs
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n  The page       http://%s/\n", page)
	if status != "" {
		fmt.Fprintf(&b, "  Its status     %s\n", status)
	}
	fmt.Fprintf(&b, "  The log        %s\n                 tail -F %s\n", log, cfg.Email.SentEmails)
	if s.redis != nil {
		fmt.Fprintf(&b, "  Its Redis      redis-cli -p %s    (in this process' memory: Ctrl-C finishes what is under way, SIGKILL loses it)\n", port(s.redis.Addr()))
	} else {
		fmt.Fprintf(&b, "  Redis          %s\n", config.Mask(string(s.redisURL)))
	}
	if s.docs != nil {
		fmt.Fprintf(&b, "  Its documents  %s    (kept between runs)\n", s.docs.Dir())
	} else {
		fmt.Fprintf(&b, "  MongoDB        %s\n", config.Mask(s.mongoURL))
	}
	fmt.Fprintf(&b, "  Who submitted  http://%s/users/ADDRESS\n", r.users.Addr())
	if cfg.Weather.ProviderURL == "" {
		b.WriteString("  Weather        switched off\n")
	} else {
		fmt.Fprintf(&b, "  Weather        http://%s/api/weather/CITY\n", r.weather.Addr())
		if strings.Contains(string(cfg.Weather.ProviderURL), "open-meteo.com") {
			b.WriteString("                 Open-Meteo's, CC BY 4.0, free for non-commercial use; WEATHER_PROVIDER_URL=off asks nobody\n")
		}
	}
	b.WriteString("\n  Ctrl-C stops it.\n\n")
	_, _ = io.WriteString(w, b.String()) // nobody may be reading
}

func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }
