// Command weather answers with temperatures and reports them to the pipeline.
package main

import (
	"context"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/program"
	"github.com/milepost/milepost/services/internal/jsonapi"
	"github.com/milepost/milepost/services/weather"
)

type settings struct {
	jsonapi.Config
	weather.Settings
	Listen config.Address `env:"LISTEN" envDefault:"127.0.0.1:8002" help:"address of GET /api/weather"`
}

func main() { service.Main() }

var service = program.Program[settings]{
	Name:  weather.Name,
	Does:  "answers with the temperature in a city or at a place, and reports it to the pipeline",
	Admin: "127.0.0.1:9104",
	Run: func(ctx context.Context, cfg settings, p *program.Process) error {
		return jsonapi.Run(p, cfg.Config, cfg.Listen, func(d jsonapi.Deps) error {
			return weather.Run(ctx, weather.Deps{Deps: d, Settings: cfg.Settings})
		})
	},
}
