// Package webapi is the HTTP edge of the pipeline: it serves the page, accepts submissions and
// streams their progress. It answers 201 only after a submission is in the stream raw_input. It
// uses Redis through pkg/stage only, and knows other stages only by the words that the page has
// for them.
//
// Where to find what: webapi.go starts and stops, site.go is what the handlers share, server.go
// has the routes and headers, submit.go and input.go POST /distance, events.go and stream.go the
// progress, overview.go GET /overview, pages.go, map.go and journey.go what pages show.
package webapi

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/geodesy"
	"github.com/milepost/milepost/pkg/program"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/telemetry"
)

// Name is the service's name: among the stages, in progress and in logs.
const Name = "web-api"

// Office is the place that distances are measured from.
type Office struct {
	Name  string
	Point geodesy.Point
}

type Deps struct {
	Broker   *stage.Broker
	Listener net.Listener // of the page; Run closes it
	Hosts    config.Hosts // names of the site; those of Settings.TrustedOrigins are, too
	Office   Office
	Settings Settings
	Reads    Reads // the services that GET /overview asks
	Admin    *telemetry.Admin
	Log      *slog.Logger
}

// Run serves until ctx ends. Then it ends the progress streams, answers the open requests and
// returns nil. It does not need Redis to start: while Redis is away, it answers submissions with
// 503 and readiness says why.
func Run(ctx context.Context, d Deps) error {
	publisher := d.Broker.Publisher(Name, event.RawInput)
	watcher := d.Broker.Watcher()
	s, err := newSite(d, publisher, watcher, d.Broker)
	if err != nil {
		return errors.Join(err, d.Listener.Close())
	}
	ctx, cancel := context.WithCancel(ctx) // also ends if the listener fails
	defer cancel()
	var redis probe
	d.Admin.Watch(Name, redis.ready)
	var probing sync.WaitGroup
	probing.Go(func() { redis.run(ctx, d.Broker.Ping) })
	defer context.AfterFunc(ctx, s.stop)() // ends the streams
	err = program.Serve(ctx, d.Listener, s.admin.Observe(s.handler(), s.proxied), d.Log)
	cancel()
	s.open.Wait()
	probing.Wait()
	return errors.Join(err, watcher.Close(), publisher.Close())
}
