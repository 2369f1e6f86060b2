package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/pkg/telemetry"
)

// everything is a configuration with all that the package offers.
type everything struct {
	config.Broker
	config.Mongo
	config.Office
	telemetry.Logging
	Listen config.Address `env:"LISTEN" envDefault:"127.0.0.1:8000"`
	Users  config.HTTPURL `env:"USERS_URL"`
	Token  string         `env:"USERS_TOKEN" secret:"yes"`
	Share  float64        `env:"SHARE" max:"1"`
	Keep   time.Duration  `env:"KEEP" min:"1h" max:"720h"`
	Inner  inner
}

// inner is a struct within it, with a field and a variable that it has already.
type inner struct {
	Share  int            `env:"INNER_SHARE" max:"9"`
	Listen config.Address `env:"LISTEN"`
}

func environment(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func TestLoad(t *testing.T) {
	var defaults everything
	stagetest.OK(t, config.Load(environment(nil), &defaults))
	want := everything{
		Broker: config.Broker{
			Redis: config.Redis{RedisHost: "127.0.0.1", RedisPort: 6379, Shards: 16},
			Tuning: config.Tuning{
				Lease: 3 * time.Second, MaxTries: 8, KeepEntries: 10_000, MaxBacklog: 1_000_000, MaxDead: 100_000, WaitTimeout: 500 * time.Millisecond, Adopt: true,
			},
		},
		Mongo:   config.Mongo{MongoHost: "127.0.0.1", MongoPort: 27017},
		Office:  config.Office{OfficeName: "Velocity", OfficeLat: 32.080058, OfficeLong: 34.864535},
		Logging: telemetry.Logging{LogFormat: "text"},
		Listen:  "127.0.0.1:8000",
	}
	if !reflect.DeepEqual(defaults, want) {
		t.Errorf("without an environment: %+v, want %+v", defaults, want)
	}

	var set everything
	err := config.Load(environment(map[string]string{
		"REDIS_HOST": "redis", "REDIS_PORT": "6380", "WORKERS": "3", "LEASE": "1s", "ADOPT": "OFF", "MONGO_URL": "mongodb://a:1,b:2/?replicaSet=rs0",
		"OFFICE_LONG": "-1e1", "LOG_LEVEL": "debug", "LOG_FORMAT": "json", "LISTEN": ":80", "USERS_URL": "http://users:8001/", "USERS_TOKEN": "t",
		"SHARE": "-5", "KEEP": "720h", "MAX_TRIES": "", "INNER_SHARE": "9",
	}), &set)
	stagetest.OK(t, err)
	if set.Options().Addr != "redis:6380" || set.Workers != 3 || set.Lease != time.Second || set.Adopt || set.MaxTries != 8 ||
		set.URI() != "mongodb://a:1,b:2/?replicaSet=rs0" || set.OfficeLong != -10 || set.LogFormat != "json" || set.Listen != ":80" ||
		set.Users != "http://users:8001" || set.Token != "t" || set.Share != -5 || set.Keep != 720*time.Hour ||
		set.Inner != (inner{9, ":80"}) {
		t.Errorf("loaded %+v", set)
	}
	set.RedisURL = "rediss://u:p@h:1/2"
	if o := set.Options(); o.Addr != "h:1" || o.DB != 2 || o.Password != "p" || o.TLSConfig == nil {
		t.Errorf("REDIS_URL does not go before REDIS_HOST: %+v", o)
	}
}

// An IP address keeps the port that the program would have used.
func TestLoadAddress(t *testing.T) {
	for value, want := range map[string][2]config.Address{ // with a default in the tag, with one in the field
		"":          {"127.0.0.1:8000", "127.0.0.1:9100"},
		"0.0.0.0":   {"0.0.0.0:8000", "0.0.0.0:9100"},
		"::":        {"[::]:8000", "[::]:9100"},
		":80":       {":80", ":80"},
		"[::1]:80":  {"[::1]:80", "[::1]:80"},
		"localhost": {}, "8000": {}, "[::]": {},
	} {
		cfg := struct {
			Listen config.Address `env:"LISTEN" envDefault:"127.0.0.1:8000"`
			Admin  config.Address `env:"ADMIN_LISTEN"`
		}{Admin: "127.0.0.1:9100"}
		err := config.Load(environment(map[string]string{"LISTEN": value, "ADMIN_LISTEN": value}), &cfg)
		if want[0] == "" {
			if err == nil {
				t.Errorf("Load with LISTEN=%q: %+v, want it refused", value, cfg)
			}
			continue
		}
		if got := [2]config.Address{cfg.Listen, cfg.Admin}; err != nil || got != want {
			t.Errorf("Load with LISTEN=%q: %q, %v; want %q", value, got, err, want)
		}
	}
	var bare struct {
		Listen config.Address `env:"LISTEN"`
	}
	if err := config.Load(environment(map[string]string{"LISTEN": "0.0.0.0"}), &bare); err == nil {
		t.Errorf("Load of an address without a port or a default: %+v, want it refused", bare)
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, tc := range []struct{ name, value, says string }{
		{"REDIS_PORT", "redis", `REDIS_PORT: "redis" is not a port (1 to 65535)`},
		{"REDIS_PORT", "tcp://10.0.0.1:6379", `REDIS_PORT: "tcp://10.0.0.1:6379" is not a port (1 to 65535)`},
		{"MONGO_PORT", "0", `MONGO_PORT: "0" is not a port (1 to 65535)`},
		{"MONGO_PORT", "65536", `MONGO_PORT: "65536" is not a port (1 to 65535)`},
		{"WORKERS", "0", `WORKERS: "0" is not a whole number from 1 to 65536`},
		{"WORKERS", "many", `WORKERS: "many" is not a whole number from 1 to 65536`},
		{"MAX_TRIES", "99999999999999999999", `MAX_TRIES: "99999999999999999999" is not a whole number of at least 1`},
		{"LEASE", "10", `LEASE: "10" is not a duration of at least 500ms, such as 500ms, 10s or 720h`},
		{"LEASE", "1ms", `LEASE: "1ms" is not a duration of at least 500ms, such as 500ms, 10s or 720h`},
		{"KEEP", "721h", `KEEP: "721h" is not a duration from 1h to 720h, such as 500ms, 10s or 720h`},
		{"SHARE", "1.01", `SHARE: "1.01" is not a number of at most 1`},
		{"INNER_SHARE", "10", `INNER_SHARE: "10" is not a whole number of at most 9`},
		{"OFFICE_LAT", "91", `OFFICE_LAT: "91" is not a number from -90 to 90`},
		{"OFFICE_LAT", "NaN", `OFFICE_LAT: "NaN" is not a number from -90 to 90`},
		{"ADOPT", "true", `ADOPT: "true" is not on or off`},
		{"LOG_LEVEL", "loud", `LOG_LEVEL: "loud" is not one of debug, info, warn, error`},
		{"LOG_FORMAT", "xml", `LOG_FORMAT: "xml" is not one of text, json`},
		{"LISTEN", "8000", `LISTEN: "8000" is not an address such as 127.0.0.1:8000, :8000 for all addresses of the machine, or 0.0.0.0 for all with the usual port`},
		{"LISTEN", "127.0.0.1:http", `LISTEN: "127.0.0.1:http" is not an address such as`},
		{"LISTEN", "a\nb", `LISTEN: "a\nb" is not an address such as`},
		{"USERS_URL", "users:8001", `USERS_URL: "users:8001" is not a URL such as http://127.0.0.1:8001`},
		{"REDIS_URL", "redis://ada:s3cr/et@h:1/0", `REDIS_URL: "redis://ada:****@h:1/0" is not a Redis URL such as`},
		{"REDIS_URL", "http://ada:s3cret@h/0", `REDIS_URL: "http://ada:****@h/0" is not a Redis URL such as`},
		{"REDIS_URL", "s3cret", `REDIS_URL: "****" is not a Redis URL such as`},
		{"REDIS_URL", "redis://s1:26379/0?master_name=m&password=s3cr@t&addr=s2", `REDIS_URL: "redis://s1:26379/0?master_name=m&password=****&addr=s2" has an addr= that is not host:port`},
		{"REDIS_URL", "redis://n1:6379/0?addr=n2", `REDIS_URL: "redis://n1:6379/0?addr=n2" has an addr= that is not host:port`},
		{"WAIT_REPLICAS", "-1", `WAIT_REPLICAS: "-1" is not a whole number from 0 to 100`},
		{"WAIT_TIMEOUT", "0", `WAIT_TIMEOUT: "0" is not a duration from 1ms to 4s`},
		{"MONGO_URL", "mongodb+srv://ada:s3cr@et@", `MONGO_URL: "mongodb+srv://ada:****@" is not a MongoDB URL such as`},
		{"MONGO_URL", "localhost", `MONGO_URL: "****" is not a MongoDB URL such as`},
		{"MONGO_URL", "mongodb://user:s3cr@t/word@host", `MONGO_URL: "mongodb://user:****@host" has a / or @ in its user or password`},
		{"MONGO_URL", "mongodb://user:s3cr@t@host/", `MONGO_URL: "mongodb://user:****@host/" has a / or @ in its user or password`},
		{"REDIS_URL", "redis://a:1,b:2?master_name=m", `REDIS_URL: "redis://a:1,b:2?master_name=m" names several servers`},
		{"REDIS_URL", "redis://a:1/0?colour=red", `REDIS_URL: "redis://a:1/0?colour=red" has an option that the client does not know: colour`},
		{"REDIS_TLS_CA", "/nowhere", `REDIS_TLS_CA: "/nowhere" is not a readable PEM file`},
		{"REDIS_TLS_CERT", "/etc/hostname", `REDIS_TLS_CERT: "/etc/hostname" needs REDIS_TLS_KEY, which is not set`},
		{"MONGO_TLS_KEY", "/etc/hostname", `MONGO_TLS_KEY: "/etc/hostname" needs MONGO_TLS_CERT, which is not set`},
		{"KEY_PREFIX", "{a}", `KEY_PREFIX: "{a}" is not a key prefix`},
		{"MONGO_DATABASE", "a.b", `MONGO_DATABASE: "a.b" is not a database name`},
		{"REDIS_URL_FILE", "/nowhere/at/all", `REDIS_URL_FILE: "/nowhere/at/all" cannot be read: `},
	} {
		t.Run(tc.name+"="+tc.value, func(t *testing.T) {
			err := config.Load(environment(map[string]string{tc.name: tc.value}), &everything{})
			var v *config.VariableError
			if !errors.As(err, &v) || v.Name != tc.name {
				t.Fatalf("Load with %s=%q: %v, want a VariableError of it", tc.name, tc.value, err)
			}
			if !strings.HasPrefix(err.Error(), tc.says) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "s3cr") {
				t.Errorf("Load with %s=%q says %q, want one line that begins %q", tc.name, tc.value, err, tc.says)
			}
		})
	}
	err := config.Load(environment(map[string]string{"LEASE": "x", "WORKERS": "x", "REDIS_PORT": "x"}), &everything{})
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("three wrong variables are reported as %q, want three lines", err)
	}
}

func TestLoadSecretFile(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		stagetest.OK(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	token := file("token", "s3cret \r\n")
	var cfg everything
	if err := config.Load(environment(map[string]string{"USERS_TOKEN_FILE": token}), &cfg); err != nil || cfg.Token != "s3cret " {
		t.Errorf("USERS_TOKEN_FILE gives %q, %v; want all but the line end", cfg.Token, err)
	}
	url := file("url", "redis://:s3cret@h:x/0")
	err := config.Load(environment(map[string]string{"REDIS_URL_FILE": url}), &everything{})
	if err == nil || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), `REDIS_URL: "redis://:****@h:x/0"`) {
		t.Errorf("a wrong URL in a file gives %v, want it masked", err)
	}
	for name, vars := range map[string]map[string]string{
		"both":  {"USERS_TOKEN_FILE": token, "USERS_TOKEN": "t"},
		"empty": {"USERS_TOKEN_FILE": file("empty", "\n")},
	} {
		var v *config.VariableError
		if err := config.Load(environment(vars), &everything{}); !errors.As(err, &v) || v.Name != "USERS_TOKEN_FILE" {
			t.Errorf("%s: %v, want a VariableError of USERS_TOKEN_FILE", name, err)
		}
	}
}

func TestMask(t *testing.T) {
	for in, want := range map[string]string{
		"":                            "",
		"s3cret":                      "****",
		"redis://h:6379/0":            "redis://h:6379/0",
		"redis://ada@h":               "redis://ada@h",
		"redis://ada:s3cret@h":        "redis://ada:****@h",
		"redis://:s3@cr/et@h:6379/0":  "redis://:****@h:6379/0",
		"mongodb://a:s3cret@h1:1,h2/": "mongodb://a:****@h1:1,h2/",
	} {
		if got := config.Mask(in); got != want {
			t.Errorf("Mask(%q) = %q, want %q", in, got, want)
		}
	}
}
