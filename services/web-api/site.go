package webapi

import (
	"context"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/telemetry"
)

// publisher accepts submissions: a [stage.Publisher].
type publisher interface {
	Publish(context.Context, stage.Submission) (stage.Receipt, error)
}

// watcher follows their progress: a [stage.Watcher].
type watcher interface {
	Watch(ctx context.Context, ids []string, f func(stage.Step)) error
}

// history reads the progress of one: a [stage.Broker].
type history interface {
	Progress(ctx context.Context, id string) ([]stage.Step, error)
}

// site has the handlers, and what they share.
type site struct {
	publisher publisher
	watcher   watcher
	history   history
	office    Office
	settings  Settings
	log       *slog.Logger
	assets    *assets
	mounts    mounts
	metrics   *metrics
	admin     *telemetry.Admin
	proxies   *proxies
	guard     telemetry.HostGuard
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
	trusted := &proxies{trusted: d.Settings.TrustedProxies, log: d.Log}
	s := &site{
		publisher: p, watcher: w, history: h, office: d.Office, settings: d.Settings, log: d.Log,
		assets: a, metrics: newMetrics(d.Admin.Registry()), admin: d.Admin, proxies: trusted,
		streams: slots{max: d.Settings.StreamLimit}, overview: newOverview(d, trusted), heartbeat: 15 * time.Second, newKey: newKey, now: time.Now,
	}
	s.guard.Hosts, s.guard.Log = slices.Clone(d.Hosts), d.Log
	for _, o := range d.Settings.TrustedOrigins {
		if u, err := url.Parse(o); err == nil {
			s.guard.Hosts = append(s.guard.Hosts, u.Hostname())
		}
	}
	if s.mounts.home, err = s.newMount(string(d.Settings.BasePath)); err != nil {
		return nil, err
	}
	s.stopping, s.stop = context.WithCancel(context.Background())
	return s, nil
}
