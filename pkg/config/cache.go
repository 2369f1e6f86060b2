package config

import "github.com/redis/go-redis/v9"

// CacheRedis says where answers are cached.
type CacheRedis struct {
	CacheRedisURL RedisURL `env:"CACHE_REDIS_URL" secret:"yes" help:"Redis of the cache, such as redis://cache:6379; unset: the pipeline's own"`
}

// CacheOptions are the options of a client for it; pipeline is what unset means.
func (c CacheRedis) CacheOptions(pipeline Redis) *redis.Options {
	if c.CacheRedisURL != "" {
		return c.CacheRedisURL.Options()
	}
	return pipeline.Options()
}
