// Package webapi is the HTTP edge of the pipeline: the page with its form, the door by which submissions come in, and the
// streams on which their progress goes out.
//
// A submission is answered 201 once it is in the stream raw_input, and not before. Everything it needs of Redis goes
// through pkg/stage; nothing here knows the stages behind it, except for the words the page has for them.
package webapi

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/geodesy"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/telemetry"
)

// Name is the service's name: in the registry, in progress and in logs.
const Name = "web-api"

// Office is where distances are measured from, for the page to show.
type Office struct {
	Name  string
	Point geodesy.Point
}

// Deps are what Run needs.
type Deps struct {
	Broker   *stage.Broker
	Listener net.Listener // where the page is served; Run closes it
	Office   Office
	Settings Settings
	Reads    Reads            // the services that GET /overview asks
	Admin    *telemetry.Admin // may be nil
	Log      *slog.Logger
}

// drain is how long requests under way may take when the server stops.
const drain = 10 * time.Second

// Run serves until ctx ends, then answers what is under way, ends the progress streams and returns nil. Redis need not
// be there: until it is, submissions are answered 503 and readiness says why.
func Run(ctx context.Context, d Deps) error {
	publisher := d.Broker.Publisher(Name, event.RawInput)
	watcher := d.Broker.Watcher()
	s, err := newSite(d, publisher, watcher, d.Broker)
	if err != nil {
		return errors.Join(err, d.Listener.Close())
	}
	redis := newProbe(d.Broker)
	d.Admin.Watch(Name, redis.ready)
	probing := make(chan struct{})
	go func() {
		defer close(probing)
		redis.run(ctx)
	}()
	server := s.server()
	// Not tied to ctx: a request that came in is answered, whatever else stops.
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		s.stop() // the streams would never end by themselves
		live, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
		defer cancel()
		stopped <- server.Shutdown(live)
	})
	d.Log.Info("serving", "url", "http://"+d.Listener.Addr().String()+"/")
	err = server.Serve(d.Listener)
	if stop() { // the listener broke; nobody asked to stop
		s.stop()
		err = errors.Join(fmt.Errorf("serve %s: %w", d.Listener.Addr(), err), server.Close())
	} else if err = <-stopped; err != nil {
		err = fmt.Errorf("requests under way at the stop: %w", errors.Join(err, server.Close()))
	}
	s.open.Wait()
	<-probing
	return errors.Join(err, watcher.Close(), publisher.Close())
}

// probe knows whether Redis is there without asking it each time somebody wants to know.
type probe struct {
	broker interface{ Ping(context.Context) error }
	last   atomic.Pointer[error]
}

func newProbe(b *stage.Broker) *probe {
	p := &probe{broker: b}
	connecting := errors.New("connecting to redis")
	p.last.Store(&connecting)
	return p
}

func (p *probe) ready() error { return *p.last.Load() }

// run asks every two seconds, which an idle Redis does not feel, and every quarter of one while it waits.
func (p *probe) run(ctx context.Context) {
	for ctx.Err() == nil {
		ask, cancel := context.WithTimeout(ctx, time.Second)
		err := p.broker.Ping(ask)
		cancel()
		p.last.Store(&err)
		pause := 2 * time.Second
		if err != nil {
			pause = 250 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// publisher is what the site needs to let submissions in.
type publisher interface {
	Publish(context.Context, stage.Submission) (stage.Receipt, error)
}

// watcher is what it needs to follow them.
type watcher interface {
	Watch(ctx context.Context, ids []string, f func(stage.Step)) error
}

// history is what it needs to tell what is known of one.
type history interface {
	Progress(ctx context.Context, id string) ([]stage.Step, error)
}

// site is the handlers and what they share.
type site struct {
	publisher publisher
	watcher   watcher
	history   history
	office    Office
	settings  Settings
	log       *slog.Logger
	assets    *assets
	pages     *pages
	metrics   *metrics
	admin     *telemetry.Admin
	origins   *http.CrossOriginProtection
	streams   slots
	overview  *overview
	open      sync.WaitGroup // streams
	stopping  context.Context
	stop      context.CancelFunc
	heartbeat time.Duration
	newKey    func() string // makes the form's one-time key
	now       func() time.Time
}

func newSite(d Deps, p publisher, w watcher, h history) (*site, error) {
	a, err := openAssets()
	if err != nil {
		return nil, err
	}
	t, err := openPages(a)
	if err != nil {
		return nil, err
	}
	s := &site{
		publisher: p, watcher: w, history: h, office: d.Office, settings: d.Settings, log: d.Log,
		assets: a, pages: t, metrics: newMetrics(d.Admin.Registry()), admin: d.Admin, origins: http.NewCrossOriginProtection(),
		streams: slots{max: d.Settings.StreamLimit}, overview: newOverview(d), heartbeat: 15 * time.Second, newKey: rand.Text, now: time.Now,
	}
	for _, o := range d.Settings.TrustedOrigins {
		if err := s.origins.AddTrustedOrigin(o); err != nil {
			return nil, fmt.Errorf("trusted origin: %w", err)
		}
	}
	s.stopping, s.stop = context.WithCancel(context.Background())
	return s, nil
}
