package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/services/internal/processtest"
	"github.com/milepost/milepost/services/weather/openmeteo"
)

// The program as an operator starts it: by its environment, with a cache of its own.
func TestProgram(t *testing.T) {
	provider, err := openmeteo.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer provider.Close()
	broker, answers := stagetest.Real(t), stagetest.Real(t)
	_, port, _ := strings.Cut(broker.Addr, ":")
	env := map[string]string{
		"REDIS_PORT": port, "CACHE_REDIS_URL": "redis://" + answers.Addr, "WEATHER_PROVIDER_URL": provider.URL + "/", "GEOCODING_URL": provider.URL,
		"LISTEN": fmt.Sprintf("127.0.0.1:%d", stagetest.FreePort(t)), "ADMIN_LISTEN": fmt.Sprintf("127.0.0.1:%d", stagetest.FreePort(t)),
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- service.Start(ctx, nil, func(name string) string { return env[name] }, io.Discard, io.Discard)
	}()
	processtest.Until(t, "http://"+env["ADMIN_LISTEN"]+"/readyz", "weather: ok\n", ended)
	processtest.Until(t, "http://"+env["LISTEN"]+"/api/weather/paris", `"source":"open-meteo"`, ended)
	processtest.Until(t, "http://"+env["LISTEN"]+"/api/weather/paris", `"source":"cache"`, ended)
	processtest.Until(t, "http://"+env["ADMIN_LISTEN"]+"/metrics", `milepost_cache_requests_total{cache="weather",outcome="hit"} 1`, ended)
	processtest.Until(t, "http://"+env["ADMIN_LISTEN"]+"/metrics", `milepost_weather_provider_calls_total{service="geocoding",status="200"} 1`, ended)
	c := answers.Client()
	defer c.Close()
	if n := c.DBSize(t.Context()).Val(); n != 1 {
		t.Errorf("%d keys in the cache's Redis, want 1", n)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
