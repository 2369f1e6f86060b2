// Web-api serves the page, accepts submissions and shows their progress.
package main

import (
	"context"
	"errors"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/geodesy"
	"github.com/milepost/milepost/pkg/operate/statuspage"
	"github.com/milepost/milepost/pkg/program"
	webapi "github.com/milepost/milepost/services/web-api"
)

type settings struct {
	config.Broker
	config.Office
	webapi.Settings
	webapi.Reads
}

func main() {
	program.Program[settings]{
		Name:       webapi.Name,
		Does:       "serves the page, accepts submissions and shows their progress",
		Admin:      "127.0.0.1:9100",
		StatusPage: statuspage.New,
		GCPercent:  400,
		Lean:       true, // many pages may be open
		Run:        run,
	}.Main()
}

func run(ctx context.Context, cfg settings, p *program.Process) (err error) {
	point, err := geodesy.Degrees(cfg.OfficeLat, cfg.OfficeLong)
	if err != nil {
		return err
	}
	listener, err := program.Listen("LISTEN", cfg.Listen)
	if err != nil {
		return err
	}
	broker, err := p.Open(cfg.Broker)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
	return webapi.Run(ctx, webapi.Deps{
		Broker: broker, Listener: listener, Hosts: p.Hosts, Office: webapi.Office{Name: cfg.OfficeName, Point: point},
		Settings: cfg.Settings, Reads: cfg.Reads, Admin: p.Admin, Log: p.Log,
	})
}
