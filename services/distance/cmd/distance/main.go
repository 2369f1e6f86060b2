// Command distance runs the stage that works out distances.
package main

import (
	"context"

	"github.com/milepost/milepost/pkg/geodesy"
	"github.com/milepost/milepost/pkg/process"
	"github.com/milepost/milepost/services/distance"
)

type config struct {
	process.Broker
	process.Office
}

func main() { program.Main() }

var program = process.Program[config]{
	Name:       "distance",
	Does:       "works out how far each submitted place is from the office",
	Admin:      "127.0.0.1:9101",
	Processors: 1,
	Batch:      true,
	Run: func(ctx context.Context, cfg config, p *process.Process) error {
		office, err := geodesy.Degrees(cfg.OfficeLat, cfg.OfficeLong)
		if err != nil {
			return err
		}
		broker, err := p.Open(cfg.Broker)
		if err != nil {
			return err
		}
		defer func() { _ = broker.Close() }() // the stage has stopped; nothing is left that could be lost
		return distance.Run(ctx, distance.Deps{Broker: broker, Office: office, Tuning: cfg.Tuning, Admin: p.Admin})
	},
}
