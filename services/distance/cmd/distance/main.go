// Command distance runs the stage that computes distances.
package main

import (
	"context"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/geodesy"
	"github.com/milepost/milepost/pkg/program"
	"github.com/milepost/milepost/services/distance"
)

type settings struct {
	config.Broker
	config.Office
}

func main() { service.Main() }

var service = program.Program[settings]{
	Name:       "distance",
	Does:       "computes the distance from the office to each submitted place",
	Admin:      "127.0.0.1:9101",
	Processors: 1,
	GCPercent:  400,
	Run: func(ctx context.Context, cfg settings, p *program.Process) error {
		office, err := geodesy.Degrees(cfg.OfficeLat, cfg.OfficeLong)
		if err != nil {
			return err
		}
		broker, err := p.Open(cfg.Broker)
		if err != nil {
			return err
		}
		defer func() { _ = broker.Close() }()
		return distance.Run(ctx, distance.Deps{Broker: broker, Office: office, Tuning: cfg.Tuning, Admin: p.Admin})
	},
}
