package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"
)

// Logging has the settings of the log.
type Logging struct {
	LogLevel  slog.Level `env:"LOG_LEVEL" envDefault:"info" allowed:"one of debug, info, warn, error" help:"lowest level that is logged: debug, info, warn or error"`
	LogFormat string     `env:"LOG_FORMAT" envDefault:"text" oneof:"text json" help:"text or json; logs go to stderr"`
}

// Open makes the logger of the program name. A line that is logged with the context of a span has its trace's ID. Whatever
// looks like an email address in a value loses what is before the @.
func (l Logging) Open(w io.Writer, name string) *slog.Logger {
	o := &slog.HandlerOptions{Level: l.LogLevel, ReplaceAttr: maskAddresses}
	var h slog.Handler = slog.NewTextHandler(w, o)
	if l.LogFormat == "json" {
		h = slog.NewJSONHandler(w, o)
	}
	return slog.New(tracedLog{h}).With("service", name)
}

// tracedLog adds the trace of the context.
type tracedLog struct{ slog.Handler }

// Handle implements slog.Handler.
func (t tracedLog) Handle(ctx context.Context, r slog.Record) error {
	if id := trace.SpanContextFromContext(ctx).TraceID(); id.IsValid() {
		r.AddAttrs(slog.String("trace", id.String()))
	}
	return t.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (t tracedLog) WithAttrs(a []slog.Attr) slog.Handler { return tracedLog{t.Handler.WithAttrs(a)} }

// WithGroup implements slog.Handler.
func (t tracedLog) WithGroup(name string) slog.Handler { return tracedLog{t.Handler.WithGroup(name)} }

// localPart is what stands before the @ of an address, quoted or not, or before the @ of a URL.
var localPart = regexp.MustCompile(`("[^"\n]*"|[^\s"<>(),;:\\[\]]+)@`)

// maskAddresses is the last net: an error of a store or a handler may quote what somebody typed.
func maskAddresses(_ []string, a slog.Attr) slog.Attr {
	text := ""
	switch a.Value.Kind() {
	case slog.KindString:
		text = a.Value.String()
	case slog.KindAny:
		err, ok := a.Value.Any().(error)
		if !ok || err == nil {
			return a
		}
		text = err.Error()
	}
	if strings.IndexByte(text, '@') >= 0 {
		a.Value = slog.StringValue(localPart.ReplaceAllString(text, "…@"))
	}
	return a
}

// clientLog takes what the Redis client logs, which it does in one place for all clients of a process. It repeats what the
// errors of its calls say, so it is only worth reading at debug level.
type clientLog struct{ log atomic.Pointer[slog.Logger] }

var redisLog = new(clientLog)

func init() { redis.SetLogger(redisLog) }

// LogRedis sends what the Redis clients of the process log to log, at debug level.
func LogRedis(log *slog.Logger) { redisLog.log.Store(log) }

// Printf implements the client's logger.
func (c *clientLog) Printf(ctx context.Context, format string, v ...any) {
	if log := c.log.Load(); log != nil && log.Enabled(ctx, slog.LevelDebug) {
		log.DebugContext(ctx, "redis client", "says", fmt.Sprintf(format, v...))
	}
}
