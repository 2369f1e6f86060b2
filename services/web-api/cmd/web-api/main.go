// Web-api serves the page, takes submissions in and shows their progress.
package main

import (
	"context"
	"errors"

	"github.com/milepost/milepost/pkg/geodesy"
	"github.com/milepost/milepost/pkg/process"
	webapi "github.com/milepost/milepost/services/web-api"
)

type config struct {
	process.Broker
	process.Office
	webapi.Settings
	webapi.Reads
}

func main() {
	process.Program[config]{
		Name:  webapi.Name,
		Does:  "serves the page, takes submissions in and shows their progress",
		Admin: "127.0.0.1:9100",
		Run:   run,
	}.Main()
}

// run opens what the edge needs and closes it.
func run(ctx context.Context, cfg config, p *process.Process) (err error) {
	point, err := geodesy.Degrees(cfg.OfficeLat, cfg.OfficeLong)
	if err != nil {
		return err
	}
	listener, err := process.Listen("LISTEN", cfg.Listen)
	if err != nil {
		return err
	}
	broker, err := p.Open(cfg.Broker)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
	return webapi.Run(ctx, webapi.Deps{
		Broker: broker, Listener: listener, Office: webapi.Office{Name: cfg.OfficeName, Point: point},
		Settings: cfg.Settings, Reads: cfg.Reads, Admin: p.Admin, Log: p.Log,
	})
}
