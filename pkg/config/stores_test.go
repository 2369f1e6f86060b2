package config_test

import (
	"strings"
	"testing"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// Where Redis and MongoDB are, from separate variables and from URLs.
func TestStores(t *testing.T) {
	load := func(env map[string]string) (r config.Redis, m config.Mongo) {
		t.Helper()
		for _, cfg := range []any{&r, &m} {
			stagetest.OK(t, config.Load(environment(env), cfg))
		}
		return r, m
	}
	const password = "p@ss/w:rd?#%"
	r, m := load(map[string]string{"REDIS_HOST": "[::1]", "REDIS_USERNAME": "app", "REDIS_PASSWORD": password,
		"MONGO_HOST": "::1", "MONGO_USERNAME": "app", "MONGO_PASSWORD": password})
	if o := r.Options(); o.Addr != "[::1]:6379" || o.Username != "app" || o.Password != password || o.TLSConfig != nil {
		t.Errorf("Redis options = %s, user %s, password %s, TLS %v", o.Addr, o.Username, o.Password, o.TLSConfig)
	}
	if got, want := m.URI(), "mongodb://app:p%40ss%2Fw%3Ard%3F%23%25@[::1]:27017/"; got != want || m.Database() != "milepost" {
		t.Errorf("URI() = %s, database %s; want %s, milepost", got, m.Database(), want)
	}
	_, m = load(map[string]string{"MONGO_URL": "mongodb://a:1,b:2/mydb?replicaSet=rs0"})
	if m.Database() != "mydb" {
		t.Errorf("Database() = %s, want mydb of the URL", m.Database())
	}
	var c config.CacheRedis
	err := config.Load(environment(map[string]string{"CACHE_REDIS_URL": "redis://ada:x@cache/1", "CACHE_REDIS_USERNAME": "app", "CACHE_REDIS_PASSWORD": password}), &c)
	if o := c.CacheOptions(r); err != nil || o.Addr != "cache:6379" || o.DB != 1 || o.Username != "app" || o.Password != password {
		t.Errorf("options of the cache = %s, database %d, user %s, password %s, %v", o.Addr, o.DB, o.Username, o.Password, err)
	}
	r, _ = load(map[string]string{"REDIS_URL": "rediss://ada:x@s1/2?master_name=m&addr=s2:26380&username=app&password=y", "REDIS_PASSWORD": password, "REDIS_SENTINEL_PASSWORD": "z"})
	if f, o := r.Failover(), r.Options(); f == nil || strings.Join(f.SentinelAddrs, " ") != "s1:26379 s2:26380" || f.SentinelUsername != "ada" ||
		f.SentinelPassword != "z" || f.MasterName != "m" || o.Username != "app" || o.Password != password || o.DB != 2 || o.TLSConfig == nil || o.Dialer == nil {
		t.Errorf("behind Sentinel: %+v, options %+v", f, o)
	}
	r, _ = load(map[string]string{"REDIS_URL": "rediss://ada:x%25@n1/0?addr=n2:1&addr=n3:2", "SHARDS": "8"})
	if o := r.Options(); o.Addr != "n1:6379" || o.Password != "x%" || o.TLSConfig == nil || strings.Join(r.Nodes(), " ") != "n2:1 n3:2" || r.Shards != 8 {
		t.Errorf("a cluster: %+v, nodes %q, %d shards", o, r.Nodes(), r.Shards)
	}
	_, m = load(map[string]string{"MONGO_URL": "mongodb://a:1/mydb", "MONGO_DATABASE": "other"})
	if m.Database() != "other" {
		t.Errorf("Database() = %s, want other", m.Database())
	}
}
