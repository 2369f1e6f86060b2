package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/stage"
)

// server is a Redis with its INFO and CONFIG, as far as it tells them.
type server struct {
	rdb    *redis.Client
	info   map[string]string
	config map[string]string
	silent string // why config is incomplete
}

// askServer connects and reads both. The caller closes rdb.
func askServer(ctx context.Context, o *redis.Options, patience time.Duration) (*server, error) {
	c := *o
	c.DialTimeout, c.ReadTimeout, c.MaxRetries, c.DialerRetries, c.ContextTimeoutEnabled = patience, patience, -1, 1, true
	s := &server{rdb: redis.NewClient(&c), info: map[string]string{}, config: map[string]string{}}
	if err := s.rdb.Ping(ctx).Err(); err != nil {
		if c.TLSConfig != nil && speaksPlain(ctx, c) {
			err = tls.RecordHeaderError{Msg: "the server speaks no TLS"}
		}
		return nil, errors.Join(err, s.rdb.Close())
	}
	// One section a call: an embedded Redis knows few and refuses the others.
	for _, section := range []string{"server", "clients", "memory", "persistence", "replication", "cluster"} {
		text, err := s.rdb.Info(ctx, section).Result()
		if err != nil {
			continue
		}
		for line := range strings.Lines(text) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				s.info[name] = value
			}
		}
	}
	for _, name := range []string{"appendonly", "appendfsync", "maxmemory", "maxmemory-policy", "client-output-buffer-limit", "aof-load-truncated",
		"replica-priority", "min-replicas-to-write", "min-replicas-max-lag", "repl-diskless-load", "proto-max-bulk-len", "cluster-require-full-coverage", "cluster-node-timeout"} {
		if strings.HasPrefix(name, "cluster-") && s.info["cluster_enabled"] != "1" {
			continue
		}
		got, err := s.rdb.ConfigGet(ctx, name).Result()
		if err != nil {
			s.silent = err.Error()
		}
		for k, v := range got {
			s.config[k] = v
		}
	}
	return s, nil
}

// speaksPlain tells whether a server that does not answer with TLS answers without. No credentials
// are sent.
func speaksPlain(ctx context.Context, o redis.Options) bool {
	o.TLSConfig, o.Username, o.Password, o.DB = nil, "", "", 0
	rdb := redis.NewClient(&o)
	defer func() { _ = rdb.Close() }() // nothing was written
	err := rdb.Ping(ctx).Err()
	return err == nil || errors.As(err, new(redis.Error))
}

// say is a setting from CONFIG, else from INFO, where it has another name; "" if neither has it.
func (s *server) say(config, info string) string {
	if v, ok := s.config[config]; ok {
		return v
	}
	return s.info[info]
}

// notTold adds a finding about a setting that Redis does not tell.
func (x *examination) notTold(s *server, check, means string) {
	found := "not told"
	if s != nil && s.silent != "" {
		found = s.silent
	}
	x.add(check, Unknown, found, means, "Look at the server's configuration, or allow this user to read it: ACL SETUSER … +config|get +info.")
}

// expect adds a finding about a setting: fine if ok, else bad; unknown if got is empty.
func (x *examination) expect(s *server, check, got string, ok bool, bad, means, change string) {
	switch {
	case got == "":
		x.notTold(s, check, means)
	case ok:
		x.add(check, OK, got, means, "")
	default:
		x.add(check, bad, got, means, change)
	}
}

// broker checks the pipeline's Redis. It returns an error if it cannot be reached.
func (x *examination) broker(ctx context.Context) error {
	s, err := askServer(ctx, x.Redis, x.Timeout)
	for _, addr := range x.Nodes {
		if err != nil && x.Cluster {
			s, err = askServer(ctx, x.at(addr), x.Timeout)
		}
	}
	if err != nil {
		x.add("redis answers", Failed, err.Error(), "Every program waits for Redis, and web-api answers 503.", remedy(err, "REDIS", x.Redis))
		if x.Failover != nil {
			x.sentinels(ctx)
		}
		return fmt.Errorf("%w: %w", stage.ErrUnavailable, err)
	}
	defer func() { _ = s.rdb.Close() }() // nothing was written
	if s.info["redis_mode"] == "sentinel" {
		x.add("redis answers", Failed, "it is a Sentinel", "A Sentinel has no data. It names the Redis that is the master.",
			"Name the master in REDIS_URL: redis://HOST:26379/0?master_name=NAME. SENTINEL MASTERS lists the names.")
		return fmt.Errorf("%w: this is a Sentinel", stage.ErrUnavailable)
	}
	x.times("redis answers", func() error { return s.rdb.Ping(ctx).Err() })
	if x.Cluster {
		x.cluster(ctx, s)
	} else if len(s.config) == 0 && s.info["redis_version"] == "" {
		x.add("redis settings", Unknown, "not told: "+s.silent, "Persistence, memory and eviction decide whether events can be lost.",
			"The Redis inside of standalone is in memory and has none. Elsewhere, allow this user to read them: ACL SETUSER … +config|get +info.")
	} else {
		x.settings(s)
	}
	if !x.Cluster {
		x.replication(ctx, s)
	}
	x.clock("redis clock", func() (time.Time, error) { return s.rdb.Time(ctx).Result() })
	if x.Without != nil {
		return nil
	}
	x.rights(ctx)
	x.keys(ctx)
	if x.Cluster {
		x.shards(ctx)
	}
	return nil
}

func (x *examination) settings(s *server) {
	version := s.info["redis_version"]
	x.expect(s, "redis version", version, atLeast(version, 7, 0), Failed,
		"The scripts and streams need Redis 7.0 or newer.", "Upgrade Redis.")
	x.expect(s, "redis mode", s.info["redis_mode"], s.info["redis_mode"] == "standalone", Failed,
		"The pipeline runs on a master, or on a Redis Cluster.",
		"Name a single Redis, or Sentinel: redis://HOST:26379/0?master_name=NAME (with addr=HOST:26379 for each further Sentinel).")
	x.expect(s, "redis role", s.info["role"], s.info["role"] == "master", Failed,
		"Only a master accepts writes.", "Name the master, or make this one the master: REPLICAOF NO ONE.")
	appendonly := s.config["appendonly"]
	if v, ok := s.info["aof_enabled"]; ok && appendonly == "" {
		appendonly = map[string]string{"0": "no", "1": "yes"}[v]
	}
	x.expect(s, "redis appendonly", appendonly, appendonly == "yes", Failed,
		"Without the append-only file, a restart of Redis loses every event under way.",
		"In redis.conf `appendonly yes` (charts/milepost/files/broker.conf has all of this); now: CONFIG SET appendonly yes.")
	bad := Warning
	if s.config["appendfsync"] == "no" {
		bad = Failed
	}
	x.expect(s, "redis appendfsync", s.config["appendfsync"], s.config["appendfsync"] == "always", bad,
		"With always, an answered write is on the disk. With everysec, a kill during a slow fsync loses answered writes: thousands in a trial.",
		"In redis.conf `appendfsync always`; now: CONFIG SET appendfsync always.")
	if status, ok := s.info["aof_last_write_status"]; ok && appendonly == "yes" {
		x.expect(s, "redis writes its file", status, status == "ok", Failed,
			"Redis cannot write the append-only file, so it refuses writes.", "Make room on its disk.")
	}
	policy := s.say("maxmemory-policy", "maxmemory_policy")
	x.expect(s, "redis eviction", policy, policy == "noeviction", Failed,
		"A policy that evicts deletes streams, retries and idempotency keys when memory is full. With noeviction Redis refuses to publish, and web-api answers 503.",
		"In redis.conf `maxmemory-policy noeviction`; now: CONFIG SET maxmemory-policy noeviction.")
	x.memory(s)
	x.buffers(s)
	x.clients(s)
}

func (x *examination) memory(s *server) {
	const means = "Without a limit a backlog grows until the system kills Redis. With one, publishing is refused while stages can still work."
	limit, err := strconv.ParseInt(s.say("maxmemory", "maxmemory"), 10, 64)
	if err != nil {
		x.notTold(s, "redis memory", means)
		return
	}
	if limit == 0 {
		x.add("redis memory", Warning, "no maxmemory", means, "In redis.conf `maxmemory 512mb`. Its container needs twice that, because rewriting the log takes as much again.")
		return
	}
	used, err := strconv.ParseInt(s.info["used_memory"], 10, 64)
	if err != nil {
		x.add("redis memory", OK, fmt.Sprintf("maxmemory %s", size(limit)), means, "")
		return
	}
	state, share := OK, float64(used)/float64(limit)
	switch {
	case share >= 0.9:
		state = Failed
	case share >= 0.7:
		state = Warning
	}
	x.add("redis memory", state, fmt.Sprintf("%s of %s used, %.0f %%", size(used), size(limit), 100*share), means,
		"`milepostctl status` shows the backlogs. If they are intended, give it more: CONFIG SET maxmemory 1gb, and in redis.conf.")
}

// buffers checks how far a subscriber may lag behind.
func (x *examination) buffers(s *server) {
	const need = 64 << 20
	means := "Redis disconnects a slow subscriber when its output buffer is full. An adopter then loses what other programs publish until it is back."
	words := strings.Fields(s.config["client-output-buffer-limit"])
	i := slices.Index(words, "pubsub")
	if i < 0 || i+3 >= len(words) {
		x.notTold(s, "redis pubsub buffers", means)
		return
	}
	hard, _ := strconv.ParseInt(words[i+1], 10, 64)
	soft, _ := strconv.ParseInt(words[i+2], 10, 64)
	state := OK
	if hard != 0 && hard < need || soft != 0 && soft < need/4 {
		state = Warning
	}
	x.add("redis pubsub buffers", state, fmt.Sprintf("%s hard, %s soft for %s s", size(hard), size(soft), words[i+3]), means,
		`In redis.conf "client-output-buffer-limit pubsub 256mb 64mb 60"; now: CONFIG SET client-output-buffer-limit "pubsub 256mb 64mb 60".`)
}

func (x *examination) clients(s *server) {
	connected, err1 := strconv.Atoi(s.info["connected_clients"])
	most, err2 := strconv.Atoi(s.info["maxclients"])
	if err1 != nil || err2 != nil {
		return // not worth an "unknown"
	}
	state := OK
	if connected*10 >= most*8 {
		state = Warning
	}
	x.add("redis clients", state, fmt.Sprintf("%d of %d", connected, most), "Over maxclients, Redis refuses connections.", "Raise maxclients, or look for the clients with CLIENT LIST.")
}

func (x *examination) times(check string, ask func() error) {
	const means = "Each hop of an event takes a round trip or two, so slow answers slow everything."
	var took []time.Duration
	for range 20 {
		begin := time.Now()
		if err := ask(); err != nil {
			x.add(check, Failed, err.Error(), means, "Find out why it stopped answering.")
			return
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	middle, slowest := took[len(took)/2], took[len(took)-1]
	state := OK
	if middle > 10*time.Millisecond || slowest > 250*time.Millisecond {
		state = Warning
	}
	x.add(check, state, fmt.Sprintf("in %s, the slowest of %d in %s", middle.Round(time.Microsecond), len(took), slowest.Round(time.Microsecond)), means,
		"Look at its CPU and disk, and at the network. SLOWLOG GET shows slow commands of Redis.")
}

// clock compares a server's clock with ours at the middle of the request.
func (x *examination) clock(check string, ask func() (time.Time, error)) {
	const means = "Event IDs, due times and leases contain times. If clocks differ, ages and rates are wrong."
	begin := time.Now()
	theirs, err := ask()
	took := time.Since(begin)
	if err != nil || theirs.IsZero() {
		x.add(check, Unknown, "not told", means, "")
		return
	}
	off := theirs.Sub(begin.Add(took / 2)).Round(time.Millisecond)
	state := OK
	if off.Abs() > time.Second+took {
		state = Warning
	}
	if off.Abs() > time.Minute {
		state = Failed
	}
	x.add(check, state, fmt.Sprintf("%+d ms against this machine's", off.Milliseconds()), means, "Run NTP on both machines.")
}

// cache checks the cache's Redis, and whether this user may use it.
func (x *examination) cache(ctx context.Context) {
	const means = "The cache can always be refilled. A Redis of its own may evict; the pipeline's must not, and the cache could fill it."
	if x.Cache.CacheRedisURL == "" && x.Cluster {
		x.add("cache", Warning, "CACHE_REDIS_URL is not set", "A cache cannot be on a Redis Cluster: weather and users refuse to start.", "Set CACHE_REDIS_URL to a single Redis.")
		return
	}
	if x.Cache.CacheRedisURL == "" {
		x.add("cache", OK, "the pipeline's own Redis (CACHE_REDIS_URL is not set)", means, "")
		if i := slices.IndexFunc(programs, func(p stage.Config) bool { return p.Name == x.Redis.Username }); i < 0 || i >= 4 {
			x.cacheRights(ctx, x.Redis)
		}
		return
	}
	o := x.Cache.CacheOptions(config.Redis{})
	s, err := askServer(ctx, o, x.Timeout)
	if err != nil {
		x.add("cache", Failed, fmt.Sprintf("%s does not answer: %v", config.Mask(string(x.Cache.CacheRedisURL)), err), means, remedy(err, "CACHE_REDIS", o))
		return
	}
	defer func() { _ = s.rdb.Close() }() // nothing was written
	x.cacheRights(ctx, o)
	policy, limit := s.say("maxmemory-policy", "maxmemory_policy"), s.say("maxmemory", "maxmemory")
	x.expect(s, "cache eviction", policy, policy != "noeviction", Warning, means, "In its redis.conf `maxmemory-policy volatile-ttl`: it evicts first what expires first.")
	x.expect(s, "cache memory", limit, limit != "0", Warning, means, "In its redis.conf `maxmemory 100mb`.")
}

// atLeast compares a version such as "7.0.15".
func atLeast(version string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(version, "%d.%d", &a, &b); n < 2 {
		return false
	}
	return a > major || a == major && b >= minor
}

func size(n int64) string {
	switch {
	case n == 0:
		return "no limit"
	case n < 1<<20:
		return fmt.Sprintf("%d kB", n>>10)
	case n < 1<<30:
		return fmt.Sprintf("%d MB", n>>20)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/(1<<30))
}
