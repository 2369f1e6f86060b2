// Command users answers with addresses' profiles and submissions.
package main

import (
	"context"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/program"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/services/internal/jsonapi"
	"github.com/milepost/milepost/services/users"
)

type settings struct {
	jsonapi.Config
	config.Mongo
	users.Settings
	Listen    config.Address `env:"LISTEN" envDefault:"127.0.0.1:8001" help:"address of GET /users and GET /submissions"`
	MongoPool int            `env:"MONGO_POOL" envDefault:"10" min:"1" max:"1000" help:"connections to MongoDB at most"`
}

func main() { service.Main() }

var service = program.Program[settings]{
	Name:  users.Name,
	Does:  "answers with addresses' profiles and submissions",
	Admin: "127.0.0.1:9105",
	Run: func(ctx context.Context, cfg settings, p *program.Process) error {
		store, err := records.Open(cfg.URI(), cfg.Database(), cfg.MongoPool)
		if err != nil {
			return err
		}
		defer func() { _ = store.Close(context.WithoutCancel(ctx)) }()
		p.Admin.Registry().MustRegister(store)
		return jsonapi.Run(p, cfg.Config, cfg.Listen, func(d jsonapi.Deps) error {
			return users.Run(ctx, users.Deps{Deps: d, Settings: cfg.Settings, Store: store})
		})
	},
}
