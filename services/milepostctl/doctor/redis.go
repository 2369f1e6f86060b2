package doctor

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/milepost/milepost/pkg/config"
)

// redis checks the pipeline's Redis. s is it, or one node of it.
func (x *examination) redis(ctx context.Context, s *server) {
	if s.err != nil {
		x.add("redis answers", "Every program waits for Redis, and web-api answers 503.", answer{Failed, s.err.Error(), remedy(s.err, "REDIS", x.Redis)})
		if x.Failover != nil {
			x.sentinels(ctx)
		}
		return
	}
	x.quick("redis answers", func() error { return s.rdb.Ping(ctx).Err() })
	nodes := []*server{s}
	if x.Cluster {
		nodes = x.cluster(ctx, s)
	} else {
		x.add("redis mode", "The pipeline runs on a master, or on a Redis Cluster.", judge(s.info["redis_mode"], s.info["redis_mode"] == "standalone", Failed,
			"Name a single Redis, or Sentinel: redis://HOST:26379/0?master_name=NAME (with addr=HOST:26379 for each further Sentinel)."))
		x.add("redis role", "Only a master accepts writes.", judge(s.info["role"], s.info["role"] == "master", Failed,
			"Name the master, or make this one the master: REPLICAOF NO ONE."))
		x.replicas(s.online())
	}
	if x.Failover != nil {
		nodes = x.nodes(ctx, x.sentinels(ctx))
	}
	if len(nodes) > 0 {
		x.configured(nodes)
	}
	x.clock("redis clock", func() (time.Time, error) { return s.rdb.Time(ctx).Result() })
	if x.Without != nil {
		return
	}
	x.add("redis rights", "The programs try what they need before they write. If something is missing, they wait, and web-api answers 503.", x.rights(ctx))
	x.add("redis keys", "Another program has written a key of the pipeline. A stage that needs it pauses.", x.keys(ctx))
	if x.Cluster {
		x.shards(ctx, nodes)
	}
}

// configured checks the configuration of the nodes, of which there is one.
func (x *examination) configured(nodes []*server) {
	if s := nodes[0]; s.silent != nil && s.info["redis_version"] == "" {
		x.add("redis settings", "Persistence, memory and eviction decide whether events can be lost.", answer{Unknown, "not told: " + s.silent.Error(),
			"The Redis inside of standalone is in memory and has none. Elsewhere, allow this user to read them: ACL SETUSER … +config|get +info."})
		return
	}
	for _, setting := range x.settings(nodes) {
		x.add("redis "+setting.name, setting.means, setting.judge(nodes))
	}
	number := func(s *server) int { return version(s.info["redis_version"]) }
	oldest := slices.MinFunc(nodes, func(a, b *server) int { return number(a) - number(b) })
	x.add("redis version", "The scripts and streams need Redis 7.0 or newer.", judge(oldest.info["redis_version"], number(oldest) >= 7000, Failed, "Upgrade Redis on each node."))
	written := func(s *server) string { return s.info["aof_last_write_status"] }
	i := slices.IndexFunc(nodes, func(s *server) bool { return written(s) != "ok" })
	x.add("redis writes its file", "A Redis that cannot write the append-only file refuses writes.", judge(written(nodes[max(i, 0)]), i < 0, Failed, "Make room on its disk."))
	x.add("redis memory", "Without a limit a backlog grows until the system kills Redis. With one, publishing is refused while stages can still work.", memory(nodes))
	x.add("redis pubsub buffers", "Redis disconnects a slow subscriber when its output buffer is full. An adopter then loses what other programs publish until it is back.", buffers(nodes))
	x.add("redis clients", "Over maxclients, Redis refuses connections.", clients(nodes))
}

// fullest returns a figure of INFO and its limit, 0 for none, of the node that is nearest to it. ok
// is false if no node tells.
func fullest(nodes []*server, figure, limit string) (n, most float64, ok bool) {
	for _, s := range nodes {
		a, err := strconv.ParseFloat(s.info[figure], 64)
		b, wrong := strconv.ParseFloat(s.info[limit], 64)
		if err == nil && wrong == nil && (!ok || a*most > n*b) {
			n, most, ok = a, b, true
		}
	}
	return n, most, ok
}

func memory(nodes []*server) answer {
	used, most, ok := fullest(nodes, "used_memory", "maxmemory")
	switch {
	case !ok:
		return untold
	case most == 0:
		return answer{Warning, "no maxmemory", "In redis.conf `maxmemory 512mb`. Its container needs twice that, because rewriting the log takes as much again."}
	}
	return nearness(used/most, fmt.Sprintf("%s of %s used, %.0f %%", size(used), size(most), 100*used/most), 0.7, 0.9,
		"`milepostctl status` shows the backlogs. If they are intended, give it more: CONFIG SET maxmemory 1gb, and in redis.conf.")
}

func clients(nodes []*server) answer {
	connected, most, ok := fullest(nodes, "connected_clients", "maxclients")
	if !ok {
		return untold
	}
	return nearness(connected/most, fmt.Sprintf("%.0f of %.0f", connected, most), 0.8, 1, "Raise maxclients, or look for the clients with CLIENT LIST.")
}

// buffers checks how far a subscriber may lag behind.
func buffers(nodes []*server) (a answer) {
	const need = 64 << 20
	for _, n := range nodes {
		words := strings.Fields(n.config["client-output-buffer-limit"])
		i := slices.Index(words, "pubsub")
		if i < 0 || i+3 >= len(words) {
			return untold
		}
		hard, _ := strconv.ParseFloat(words[i+1], 64)
		soft, _ := strconv.ParseFloat(words[i+2], 64)
		a = judge(fmt.Sprintf("%s hard, %s soft for %s s", size(hard), size(soft), words[i+3]),
			(hard == 0 || hard >= need) && (soft == 0 || soft >= need/4), Warning,
			`In redis.conf "client-output-buffer-limit pubsub 256mb 64mb 60"; now: CONFIG SET client-output-buffer-limit "pubsub 256mb 64mb 60".`)
		if a.state != OK {
			break
		}
	}
	return a
}

// cache checks the cache's Redis.
func (x *examination) cache(ctx context.Context) {
	const means = "The cache can always be refilled. A Redis of its own may evict; the pipeline's must not, and the cache could fill it."
	const rights = "Without the cache every answer is loaded anew, and the stage users pauses."
	switch {
	case x.Cache.CacheRedisURL == "" && x.Cluster:
		x.add("cache", "A cache cannot be on a Redis Cluster: weather and users refuse to start.", answer{Warning, "CACHE_REDIS_URL is not set", "Set CACHE_REDIS_URL to a single Redis."})
		return
	case x.Cache.CacheRedisURL == "":
		x.add("cache", means, answer{OK, "the pipeline's own Redis (CACHE_REDIS_URL is not set)", ""})
		if slices.ContainsFunc(x.needed(), func(p program) bool { return p.caches }) {
			x.add("cache rights", rights, x.cacheRights(ctx, x.Redis))
		}
		return
	}
	o := x.Cache.CacheOptions(config.Redis{})
	s := x.server(ctx, o)
	if s.err != nil {
		found := fmt.Sprintf("%s does not answer: %v", config.Mask(string(x.Cache.CacheRedisURL)), s.err)
		x.add("cache", means, answer{Failed, found, remedy(s.err, "CACHE_REDIS", o)})
		return
	}
	x.add("cache rights", rights, x.cacheRights(ctx, o))
	for _, setting := range cacheSettings {
		x.add("cache "+setting.name, setting.means, setting.judge([]*server{s}))
	}
}
