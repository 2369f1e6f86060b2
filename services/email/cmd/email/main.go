// Command email runs the stage that sends the emails, into the log sent_emails.
package main

import (
	"context"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/program"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/services/email"
)

type settings struct {
	config.Broker
	config.Mongo
	email.Settings
	email.Writers
	OfficeName string `env:"OFFICE_NAME" envDefault:"Velocity" help:"name of the office, in the email"`
}

func main() { service.Main() }

var service = program.Program[settings]{
	Name:       "email",
	Does:       "sends the emails, as lines of the log sent_emails",
	Admin:      "127.0.0.1:9103",
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
		return email.Run(ctx, email.Deps{
			Broker: broker, Store: store, Office: cfg.OfficeName, Settings: cfg.Settings, Writers: cfg.Writers,
			Tuning: cfg.Tuning, Stdout: p.Stdout, Log: p.Log, Admin: p.Admin,
		})
	},
}
