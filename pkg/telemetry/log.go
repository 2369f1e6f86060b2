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

type Logging struct {
	LogLevel  slog.Level `env:"LOG_LEVEL" envDefault:"info" allowed:"one of debug, info, warn, error" help:"lowest level that is logged: debug, info, warn or error"`
	LogFormat string     `env:"LOG_FORMAT" envDefault:"text" oneof:"text json" help:"text or json; logs go to stderr"`
}

// Open makes the logger of the program name. A line with the context of a span has the ID of its
// trace. In values, the part before the @ of everything like an email address is replaced by …
func (l Logging) Open(w io.Writer, name string) *slog.Logger {
	o := &slog.HandlerOptions{Level: l.LogLevel, ReplaceAttr: maskAddresses}
	var h slog.Handler = slog.NewTextHandler(w, o)
	if l.LogFormat == "json" {
		h = slog.NewJSONHandler(w, o)
	}
	return slog.New(tracedLog{h}).With("service", name)
}

// tracedLog adds the trace ID of the context.
type tracedLog struct{ slog.Handler }

func (t tracedLog) Handle(ctx context.Context, r slog.Record) error {
	if id := trace.SpanContextFromContext(ctx).TraceID(); id.IsValid() {
		r.AddAttrs(slog.String("trace", id.String()))
	}
	return t.Handler.Handle(ctx, r)
}

func (t tracedLog) WithAttrs(a []slog.Attr) slog.Handler { return tracedLog{t.Handler.WithAttrs(a)} }

func (t tracedLog) WithGroup(name string) slog.Handler { return tracedLog{t.Handler.WithGroup(name)} }

// localPart matches what is before the @ of an address, quoted or not, or of a URL.
var localPart = regexp.MustCompile(`("[^"\n]*"|[^\s"<>(),;:\\[\]]+)@`)

// maskAddresses hides addresses: an error of a store or a handler may quote what a user typed.
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

// clientLog receives what the Redis clients of the process log. It is logged at debug level, since
// the errors of their calls say the same.
type clientLog struct{ log atomic.Pointer[slog.Logger] }

var redisLog = new(clientLog)

func init() { redis.SetLogger(redisLog) }

// LogRedis sends what the Redis clients of the process log to log, at debug level.
func LogRedis(log *slog.Logger) { redisLog.log.Store(log) }

func (c *clientLog) Printf(ctx context.Context, format string, v ...any) {
	if log := c.log.Load(); log != nil && log.Enabled(ctx, slog.LevelDebug) {
		log.DebugContext(ctx, "redis client", "says", fmt.Sprintf(format, v...))
	}
}
