package standalone

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/program"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/services/standalone/embedded"
)

// Stores configures the stores: real ones by their URLs, else embedded ones.
type Stores struct {
	RedisURL      config.RedisURL     `env:"REDIS_URL" secret:"yes" help:"a Redis to use instead of the embedded one, such as redis://127.0.0.1:6379/0; the address in EMBEDDED_REDIS is the embedded one"`
	KeyPrefix     config.KeyPrefix    `env:"KEY_PREFIX" help:"stands before every key and channel, such as shop:; needed if pipelines share a Redis"`
	MongoURL      config.MongoURL     `env:"MONGO_URL" secret:"yes" help:"a MongoDB to use instead of the embedded store, such as mongodb://127.0.0.1:27017/"`
	MongoDatabase config.DatabaseName `env:"MONGO_DATABASE" envDefault:"milepost" help:"database that holds the collection users"`
	RedisListen   config.Address      `env:"EMBEDDED_REDIS" envDefault:"127.0.0.1:6390" help:"address of the embedded Redis, for redis-cli and services beside this one"`
	MongoListen   config.Address      `env:"EMBEDDED_MONGO" envDefault:"127.0.0.1:27390" help:"address of the embedded document store"`
	Data          string              `env:"DATA" envDefault:"data" help:"folder of the embedded document store, kept between runs"`
}

// stores are the stores in use. Redis and docs are nil if they run elsewhere.
type stores struct {
	redis    *embedded.Redis
	docs     *embedded.Store
	redisURL config.RedisURL
	mongoURL string
}

// own tells whether the embedded Redis is wanted: REDIS_URL is unset, or names its address, as in a
// shell whose milepostctl was told where it is.
func (c Stores) own() bool {
	if c.RedisURL == "" {
		return true
	}
	host, port, _ := net.SplitHostPort(config.Redis{RedisURL: c.RedisURL}.Options().Addr)
	_, own, _ := net.SplitHostPort(string(c.RedisListen))
	return port == own && (host == "localhost" || net.ParseIP(host).IsLoopback())
}

func (c Stores) open(ctx context.Context, log *slog.Logger) (*stores, error) {
	s := &stores{redisURL: c.RedisURL, mongoURL: string(c.MongoURL)}
	if c.own() {
		r, err := embedded.StartRedis(string(c.RedisListen))
		switch {
		case errors.Is(err, embedded.ErrTaken) && c.RedisURL != "": // somebody else's Redis, which REDIS_URL names
		case errors.Is(err, embedded.ErrTaken):
			return nil, fmt.Errorf("EMBEDDED_REDIS: %w; is this program already running? Stop it, or set EMBEDDED_REDIS to another address", err)
		case err != nil:
			return nil, fmt.Errorf("EMBEDDED_REDIS: %w", err)
		default:
			s.redis, s.redisURL = r, config.RedisURL("redis://"+r.Addr()+"/0")
		}
	}
	if s.mongoURL == "" {
		d, err := openDocs(ctx, c.Data, string(c.MongoListen), string(c.MongoDatabase), log)
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.docs, s.mongoURL = d, d.URL()
	}
	return s, nil
}

// openDocs starts the document store and makes the index for look-ups by event ID.
func openDocs(ctx context.Context, dir, listen, database string, log *slog.Logger) (*embedded.Store, error) {
	d, err := embedded.StartStore(dir, listen, log)
	switch {
	case errors.Is(err, embedded.ErrTaken):
		return nil, fmt.Errorf("EMBEDDED_MONGO: %w; is this program already running? Stop it, or set EMBEDDED_MONGO to another address", err)
	case err != nil:
		return nil, fmt.Errorf("DATA: %w", err)
	}
	if err := d.IndexIDs(ctx, database, records.Collection); err != nil {
		return nil, errors.Join(fmt.Errorf("DATA: %w", err), d.Close())
	}
	return d, nil
}

func (s *stores) close() (err error) {
	if s.docs != nil {
		err = s.docs.Close()
	}
	if s.redis != nil {
		s.redis.Close()
	}
	return err
}

// Store is the subcommand "store": it runs the embedded document store alone, for programs that
// have no MongoDB.
var Store = program.Command{
	Does: "runs the embedded document store alone; see --help",
	Run:  runStore,
}

func runStore(ctx context.Context, args []string, _ func(string) string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("standalone store", flag.ContinueOnError)
	f.SetOutput(stderr)
	listen := f.String("listen", "127.0.0.1:27017", "address it listens on")
	dir := f.String("data", "data", "folder of the documents, kept between runs")
	database := f.String("database", "milepost", "database that gets its index at once")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return fmt.Errorf("%w: %w", err, program.ErrUsage)
	case f.NArg() > 0:
		return fmt.Errorf("unexpected argument %q: %w", f.Arg(0), program.ErrUsage)
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	start := time.Now()
	d, err := openDocs(ctx, *dir, *listen, *database, log)
	if err != nil {
		return err
	}
	log.Info("document store ready", "url", d.URL(), "folder", d.Dir(), "after", time.Since(start).Round(time.Millisecond).String())
	fmt.Fprintf(stdout, "%s\n", d.URL())
	<-ctx.Done()
	return d.Close()
}
