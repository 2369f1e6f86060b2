// Command users answers with addresses' profiles and submissions.
package main

import (
	"context"
	"errors"

	"github.com/milepost/milepost/pkg/cache"
	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/program"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/services/users"
)

type settings struct {
	config.Broker
	config.CacheRedis
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
	Run:   run,
}

func run(ctx context.Context, cfg settings, p *program.Process) error {
	listener, err := program.Listen("LISTEN", cfg.Listen)
	if err != nil {
		return err
	}
	store, err := records.Open(cfg.URI(), cfg.Database(), cfg.MongoPool)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer func() { _ = store.Close(context.WithoutCancel(ctx)) }()
	p.Admin.Registry().MustRegister(store)
	broker, err := p.Open(cfg.Broker)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	answers := cache.Open(cfg.CacheOptions(cfg.Redis), string(cfg.KeyPrefix), p.Log)
	p.Admin.RedisPool("cache", answers.Pool)
	err = users.Run(ctx, users.Deps{
		Broker: broker, Cache: answers, Store: store, Listener: listener, Hosts: p.Hosts, Settings: cfg.Settings, Tuning: cfg.Tuning, Log: p.Log, Admin: p.Admin,
	})
	return errors.Join(err, answers.Close(), broker.Close())
}
