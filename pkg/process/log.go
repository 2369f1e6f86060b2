package process

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// Logging has the settings of the log.
type Logging struct {
	LogLevel  slog.Level `env:"LOG_LEVEL" envDefault:"info" allowed:"one of debug, info, warn, error" help:"least level that is logged: debug, info, warn or error"`
	LogFormat string     `env:"LOG_FORMAT" envDefault:"text" oneof:"text json" help:"text or json; logs go to stderr"`
}

// Open makes the logger of the program name.
func (l Logging) Open(w io.Writer, name string) *slog.Logger {
	o := &slog.HandlerOptions{Level: l.LogLevel}
	var h slog.Handler = slog.NewTextHandler(w, o)
	if l.LogFormat == "json" {
		h = slog.NewJSONHandler(w, o)
	}
	return slog.New(h).With("service", name)
}

// clientLog takes what the Redis client logs, which it does in one place for all clients of a process. It repeats what the
// errors of its calls say, so it is only worth reading at debug level.
type clientLog struct{ log atomic.Pointer[slog.Logger] }

var redisLog = new(clientLog)

func init() { redis.SetLogger(redisLog) }

// Printf implements the client's logger.
func (c *clientLog) Printf(ctx context.Context, format string, v ...any) {
	if log := c.log.Load(); log != nil && log.Enabled(ctx, slog.LevelDebug) {
		log.DebugContext(ctx, "redis client", "says", fmt.Sprintf(format, v...))
	}
}
