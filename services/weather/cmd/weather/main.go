// Command weather answers with temperatures and reports them to the pipeline.
package main

import (
	"context"
	"errors"

	"github.com/milepost/milepost/pkg/cache"
	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/program"
	"github.com/milepost/milepost/services/weather"
)

type settings struct {
	config.Broker
	config.CacheRedis
	weather.Settings
	Listen config.Address `env:"LISTEN" envDefault:"127.0.0.1:8002" help:"address of GET /api/weather"`
}

func main() { service.Main() }

var service = program.Program[settings]{
	Name:  weather.Name,
	Does:  "answers with the temperature in a city or at a place, and reports it to the pipeline",
	Admin: "127.0.0.1:9104",
	Run:   run,
}

func run(ctx context.Context, cfg settings, p *program.Process) error {
	listener, err := program.Listen("LISTEN", cfg.Listen)
	if err != nil {
		return err
	}
	broker, err := p.Open(cfg.Broker)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	answers := cache.Open(cfg.CacheOptions(cfg.Redis), string(cfg.KeyPrefix), p.Log)
	p.Admin.RedisPool("cache", answers.Pool)
	err = weather.Run(ctx, weather.Deps{
		Broker: broker, Cache: answers, Listener: listener, Hosts: p.Hosts, Settings: cfg.Settings, Tuning: cfg.Tuning, Log: p.Log, Admin: p.Admin,
	})
	return errors.Join(err, answers.Close(), broker.Close())
}
