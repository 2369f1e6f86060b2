package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage"
)

// Redis says where the pipeline's Redis is. REDIS_URL goes before REDIS_HOST and REDIS_PORT.
type Redis struct {
	RedisURL      RedisURL  `env:"REDIS_URL" secret:"yes" help:"URL of Redis, such as redis://user:password@host:6379/0; rediss:// for TLS; behind Sentinel redis://s1:26379/0?master_name=m&addr=s2:26379; of a cluster redis://n1:6379?addr=n2:6379"`
	RedisHost     string    `env:"REDIS_HOST" envDefault:"127.0.0.1" help:"host of Redis, if REDIS_URL is not set"`
	RedisUsername string    `env:"REDIS_USERNAME" help:"user of Redis, instead of the one in REDIS_URL"`
	RedisPassword string    `env:"REDIS_PASSWORD" secret:"yes" help:"its password, in any characters, instead of the one in REDIS_URL"`
	SentinelPass  string    `env:"REDIS_SENTINEL_PASSWORD" secret:"yes" help:"password of Sentinel, instead of the one before @ in REDIS_URL"`
	RedisTLSCA    CAFile    `env:"REDIS_TLS_CA" help:"PEM file with the authority of Redis' certificate; switches TLS on"`
	RedisTLSCert  File      `env:"REDIS_TLS_CERT" needs:"REDIS_TLS_KEY" help:"PEM file with the client certificate for Redis; switches TLS on"`
	RedisTLSKey   File      `env:"REDIS_TLS_KEY" needs:"REDIS_TLS_CERT" help:"PEM file with its key"`
	RedisPort     Port      `env:"REDIS_PORT" envDefault:"6379" help:"port of Redis, if REDIS_URL is not set"`
	Shards        int       `env:"SHARDS" envDefault:"16" min:"1" max:"256" help:"shards of the pipeline in a Redis Cluster, fixed when it first starts; a single Redis has one"`
	KeyPrefix     KeyPrefix `env:"KEY_PREFIX" help:"stands before every key and channel, such as shop:; needed if pipelines share a Redis"`
}

// Options returns the options of a client for the Redis, or for the master that Sentinel names. It
// panics if REDIS_URL has not passed UnmarshalText.
func (r Redis) Options() *redis.Options {
	if f := r.Failover(); f != nil {
		return stage.Sentinel(f)
	}
	o := cmp.Or(r.RedisURL.place().options, &redis.Options{Addr: net.JoinHostPort(strings.Trim(r.RedisHost, "[]"), strconv.Itoa(int(r.RedisPort)))})
	o.Username, o.Password = cmp.Or(r.RedisUsername, o.Username), cmp.Or(r.RedisPassword, o.Password)
	host, _, _ := net.SplitHostPort(o.Addr)
	o.TLSConfig = secure(o.TLSConfig, host, r.RedisTLSCA, r.RedisTLSCert, r.RedisTLSKey)
	return o
}

// Nodes returns the further nodes of a Redis Cluster that REDIS_URL names.
func (r Redis) Nodes() []string { return r.RedisURL.place().nodes }

// Failover returns how to find a master by Sentinel, nil if REDIS_URL names a single Redis.
func (r Redis) Failover() *redis.FailoverOptions {
	f := r.RedisURL.place().failover
	if f == nil {
		return nil
	}
	f.Username, f.Password = cmp.Or(r.RedisUsername, f.Username), cmp.Or(r.RedisPassword, f.Password)
	f.SentinelPassword = cmp.Or(r.SentinelPass, f.SentinelPassword)
	f.TLSConfig = secure(f.TLSConfig, "", r.RedisTLSCA, r.RedisTLSCert, r.RedisTLSKey)
	return f
}

type CacheRedis struct {
	CacheRedisURL RedisURL `env:"CACHE_REDIS_URL" secret:"yes" help:"URL of the cache's Redis, such as redis://cache:6379; unset: the pipeline's Redis"`
	CacheUsername string   `env:"CACHE_REDIS_USERNAME" help:"its user, instead of the one in CACHE_REDIS_URL"`
	CachePassword string   `env:"CACHE_REDIS_PASSWORD" secret:"yes" help:"its password, in any characters"`
	CacheTLSCA    CAFile   `env:"CACHE_REDIS_TLS_CA" help:"PEM file with the authority of its certificate; switches TLS on"`
	CacheTLSCert  File     `env:"CACHE_REDIS_TLS_CERT" needs:"CACHE_REDIS_TLS_KEY" help:"PEM file with the client certificate for it; switches TLS on"`
	CacheTLSKey   File     `env:"CACHE_REDIS_TLS_KEY" needs:"CACHE_REDIS_TLS_CERT" help:"PEM file with its key"`
}

// CacheOptions returns the options of a client for it, those of pipeline if it is unset.
func (c CacheRedis) CacheOptions(pipeline Redis) *redis.Options {
	if c.CacheRedisURL == "" {
		return pipeline.Options()
	}
	return Redis{
		RedisURL: c.CacheRedisURL, RedisUsername: c.CacheUsername, RedisPassword: c.CachePassword,
		RedisTLSCA: c.CacheTLSCA, RedisTLSCert: c.CacheTLSCert, RedisTLSKey: c.CacheTLSKey,
	}.Options()
}

// Tuning has the settings of the stage runtime.
type Tuning struct {
	Workers     int           `env:"WORKERS" min:"1" max:"65536" help:"handler calls at the same time; unset: the stage's own default"`
	Lease       time.Duration `env:"LEASE" envDefault:"3s" min:"500ms" help:"others take over the work of a consumer that is silent for this long"`
	MaxTries    int           `env:"MAX_TRIES" envDefault:"8" min:"1" help:"an event becomes a dead letter after this many errors"`
	KeepEntries int           `env:"KEEP_ENTRIES" envDefault:"10000" min:"1" help:"entries that an output without readers keeps"`
	MaxBacklog  int           `env:"MAX_BACKLOG" envDefault:"1000000" min:"1" help:"publishing is refused while a channel holds this many unsettled entries"`
	MaxDead     int           `env:"MAX_DEAD" envDefault:"100000" min:"1" help:"dead letters that a channel keeps; the oldest are deleted first"`
	WaitFor     int           `env:"WAIT_REPLICAS" envDefault:"0" min:"0" max:"100" help:"web-api answers 201 only if so many replicas of Redis have the submission"`
	WaitTimeout time.Duration `env:"WAIT_TIMEOUT" envDefault:"500ms" min:"1ms" max:"4s" help:"web-api answers 503 if they do not have it after this long"`
	Adopt       Switch        `env:"ADOPT" envDefault:"on" help:"on or off: add to the stream what other programs PUBLISH on the channel"`
}

// Apply returns c with these settings. It keeps c.Workers if WORKERS is unset.
func (t Tuning) Apply(c stage.Config) stage.Config {
	if t.Workers != 0 {
		c.Workers = t.Workers
	}
	c.MaxTries, c.NoAdopt = t.MaxTries, !bool(t.Adopt)
	return c
}

// Broker is embedded by every program that uses the pipeline.
type Broker struct {
	Redis
	Tuning
}

// Mongo says where the documents are. MONGO_URL goes before MONGO_HOST and MONGO_PORT.
type Mongo struct {
	MongoURL      MongoURL     `env:"MONGO_URL" secret:"yes" help:"URL of MongoDB, such as mongodb://user:password@host:27017/?replicaSet=rs0"`
	MongoHost     string       `env:"MONGO_HOST" envDefault:"127.0.0.1" help:"host of MongoDB, if MONGO_URL is not set"`
	MongoPort     Port         `env:"MONGO_PORT" envDefault:"27017" help:"port of MongoDB, if MONGO_URL is not set"`
	MongoDatabase DatabaseName `env:"MONGO_DATABASE" help:"database that holds the collection users; unset: the one in MONGO_URL, else milepost"`
	MongoUsername string       `env:"MONGO_USERNAME" help:"user of MongoDB, instead of the one in MONGO_URL"`
	MongoPassword string       `env:"MONGO_PASSWORD" needs:"MONGO_USERNAME" secret:"yes" help:"its password, in any characters"`
	MongoTLSCA    CAFile       `env:"MONGO_TLS_CA" help:"PEM file with the authority of MongoDB's certificate; switches TLS on"`
	MongoTLSCert  File         `env:"MONGO_TLS_CERT" needs:"MONGO_TLS_KEY" help:"PEM file with the client certificate for MongoDB; switches TLS on"`
	MongoTLSKey   File         `env:"MONGO_TLS_KEY" needs:"MONGO_TLS_CERT" help:"PEM file with its key"`
}

// URI returns the connection string, with the user and the password of their own variables.
func (m Mongo) URI() string {
	uri := string(m.MongoURL)
	if uri == "" {
		uri = "mongodb://" + net.JoinHostPort(strings.Trim(m.MongoHost, "[]"), strconv.Itoa(int(m.MongoPort))) + "/"
	}
	if m.MongoUsername != "" {
		scheme, rest, _ := strings.Cut(uri, "://")
		hosts := rest[strings.LastIndexByte(rest, '@')+1:]
		uri = scheme + "://" + url.UserPassword(m.MongoUsername, m.MongoPassword).String() + "@" + hosts
	}
	query := url.Values{}
	for name, file := range map[string]string{"tlsCAFile": string(m.MongoTLSCA), "tlsCertificateFile": string(m.MongoTLSCert), "tlsPrivateKeyFile": string(m.MongoTLSKey)} {
		if file != "" {
			query.Set(name, file)
			query.Set("tls", "true")
		}
	}
	if len(query) == 0 {
		return uri
	}
	if before, options, ok := strings.Cut(uri, "?"); ok {
		return before + "?" + options + "&" + query.Encode()
	} else if _, rest, _ := strings.Cut(uri, "://"); !strings.Contains(rest, "/") {
		uri += "/"
	}
	return uri + "?" + query.Encode()
}

// Database is MONGO_DATABASE, else the database in MONGO_URL, else milepost.
func (m Mongo) Database() string {
	_, rest, _ := strings.Cut(string(m.MongoURL), "://")
	_, path, _ := strings.Cut(rest, "/")
	named, _, _ := strings.Cut(path, "?")
	return cmp.Or(string(m.MongoDatabase), named, "milepost")
}

// Office is the place that distances are measured from.
type Office struct {
	OfficeName string  `env:"OFFICE_NAME" envDefault:"Velocity" help:"name of the office in the email"`
	OfficeLat  float64 `env:"OFFICE_LAT" envDefault:"32.080058" min:"-90" max:"90" help:"its latitude in degrees"`
	OfficeLong float64 `env:"OFFICE_LONG" envDefault:"34.864535" min:"-180" max:"180" help:"its longitude in degrees"`
}

type Port int

func (p *Port) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(string(b), 10, 16)
	if err != nil || n == 0 {
		return errors.New("is not a port (1 to 65535)")
	}
	*p = Port(n)
	return nil
}

type Switch bool

func (s *Switch) UnmarshalText(b []byte) error {
	switch strings.ToLower(string(b)) {
	case "on":
		*s = true
	case "off":
		*s = false
	default:
		return errors.New("is not on or off")
	}
	return nil
}

func (s Switch) String() string {
	if s {
		return "on"
	}
	return "off"
}

// Address is a TCP address to listen on, host:port. Without a host it means all addresses of the
// machine, with port 0 any free port. [Load] also takes an IP address alone, with the default's
// port.
type Address string

func (a *Address) UnmarshalText(b []byte) error {
	_, port, err := net.SplitHostPort(string(b))
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return errors.New("is not an address such as 127.0.0.1:8000, :8000 for all addresses of the machine, or 0.0.0.0 for all with the usual port")
	}
	*a = Address(b)
	return nil
}

// KeyPrefix stands before every key and channel of a pipeline.
type KeyPrefix string

func (p *KeyPrefix) UnmarshalText(b []byte) error {
	if stage.CheckPrefix(string(b), 0) != nil {
		return errors.New(`is not a key prefix: at most 64 printable ASCII characters, without spaces, quotes, braces or any of *?[]\`)
	}
	*p = KeyPrefix(b)
	return nil
}

// RedisURL is a URL that a Redis client can be made from.
type RedisURL string

// UnmarshalText reads a URL. Its error repeats no part of it: any part may be the password.
func (u *RedisURL) UnmarshalText(b []byte) (err error) {
	if _, err = RedisURL(b).parse(); err == nil {
		*u = RedisURL(b)
	}
	return err
}

// place is what a RedisURL names: a Redis and the further nodes of its cluster, or a master that
// Sentinels know. The zero place is that of an empty URL.
type place struct {
	options  *redis.Options
	nodes    []string
	failover *redis.FailoverOptions
}

// place panics if u has not passed UnmarshalText.
func (u RedisURL) place() (at place) {
	if u != "" {
		var err error
		if at, err = u.parse(); err != nil {
			panic("config: unchecked Redis URL: " + Mask(string(u)))
		}
	}
	return at
}

func (u RedisURL) parse() (at place, err error) {
	p, err := url.Parse(string(u))
	if err != nil {
		return at, errRedisURL
	}
	if strings.Contains(p.Host, ",") {
		return at, errors.New("names several servers; name one, and the others as &addr=HOST:PORT (Sentinels, or nodes of a cluster)")
	}
	q, one := p.Query(), string(u)
	for _, addr := range q["addr"] {
		if _, port, bad := net.SplitHostPort(addr); bad != nil || new(Port).UnmarshalText([]byte(port)) != nil {
			return at, errors.New("has an addr= that is not host:port")
		}
	}
	if q.Get("master_name") != "" {
		// As in all of go-redis, the user and password before the @ are Sentinel's, those
		// in the query are Redis'.
		if at.failover, err = redis.ParseFailoverURL(one); err == nil && p.Port() == "" {
			at.failover.SentinelAddrs[0] = net.JoinHostPort(p.Hostname(), "26379") // the client would take Redis' own port
		}
	} else {
		if at.nodes = q["addr"]; len(at.nodes) > 0 {
			q.Del("addr")
			p.RawQuery = q.Encode()
			one = p.String()
		}
		at.options, err = redis.ParseURL(one)
	}
	if err == nil {
		return at, nil
	}
	if _, options, ok := strings.Cut(err.Error(), "unexpected option: "); ok && !strings.Contains(options, "@") {
		return at, fmt.Errorf("has an option that the client does not know: %s", options)
	}
	return at, errRedisURL
}

var errRedisURL = errors.New("is not a Redis URL such as redis://user:password@host:6379/0 (rediss:// for TLS, unix:// for a socket; escape special characters of the password with %)")

// MongoURL is a MongoDB connection string. The driver checks what follows the scheme.
type MongoURL string

// UnmarshalText checks the scheme and that there is a host.
func (u *MongoURL) UnmarshalText(b []byte) error {
	scheme, rest, _ := strings.Cut(string(b), "://")
	hosts, _, _ := strings.Cut(rest[strings.LastIndexByte(rest, '@')+1:], "/")
	rest, _, _ = strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	if hosts != "" && (strings.Contains(path, "@") || strings.Count(authority, "@") > 1) {
		return errors.New("has a / or @ in its user or password; write %2F or %40, or use MONGO_USERNAME and MONGO_PASSWORD")
	}
	if (scheme != "mongodb" && scheme != "mongodb+srv") || hosts == "" {
		return errors.New("is not a MongoDB URL such as mongodb://user:password@host:27017/ or mongodb+srv://host/")
	}
	*u = MongoURL(b)
	return nil
}

// HTTPURL is the address of an HTTP service, without a trailing slash.
type HTTPURL string

func (u *HTTPURL) UnmarshalText(b []byte) error {
	p, err := url.Parse(string(b))
	if err != nil || (p.Scheme != "http" && p.Scheme != "https") || p.Host == "" {
		return errors.New("is not a URL such as http://127.0.0.1:8001")
	}
	*u = HTTPURL(strings.TrimRight(string(b), "/"))
	return nil
}

type DatabaseName string

func (d *DatabaseName) UnmarshalText(b []byte) error {
	if len(b) == 0 || len(b) > 63 || strings.ContainsAny(string(b), "/\\. \"$*<>:|?\x00") {
		return fmt.Errorf("is not a database name: at most 63 bytes, without spaces and any of %s", `/ \ . " $ * < > : | ?`)
	}
	*d = DatabaseName(b)
	return nil
}
