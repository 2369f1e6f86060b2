// Command db runs the stage that stores results in MongoDB.
package main

import (
	"context"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/program"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/services/db"
)

type settings struct {
	config.Broker
	config.Mongo
}

func main() { service.Main() }

var service = program.Program[settings]{
	Name:       "db",
	Does:       "stores each result as a document of MongoDB",
	Admin:      "127.0.0.1:9102",
	Processors: 1,
	GCPercent:  400,
	Run: func(ctx context.Context, cfg settings, p *program.Process) error {
		broker, err := p.Open(cfg.Broker)
		if err != nil {
			return err
		}
		defer func() { _ = broker.Close() }()
		store, err := records.Open(cfg.URI(), cfg.Database(), 0)
		if err != nil {
			return err
		}
		defer func() { _ = store.Close(context.WithoutCancel(ctx)) }()
		p.Admin.Registry().MustRegister(store)
		p.Admin.Watch("mongo", store.Ready)
		return db.Run(ctx, db.Deps{Broker: broker, Store: store, Tuning: cfg.Tuning, Log: p.Log, Admin: p.Admin})
	},
}
