package process

import (
	"io"
	"log/slog"
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
