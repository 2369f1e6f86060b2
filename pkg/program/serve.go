package program

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/milepost/milepost/pkg/config"
)

// serveDrain is how long running requests may take when a server stops.
const serveDrain = 10 * time.Second

// Serve answers requests on l until ctx ends, finishes running requests in 10 s at most and returns
// nil. It closes l. It cuts off slow clients: headers 5 s, request 15 s, answer 30 s.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       90 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		live, cancel := context.WithTimeout(context.WithoutCancel(ctx), serveDrain)
		defer cancel()
		stopped <- s.Shutdown(live)
	})
	log.Info("serving", "url", "http://"+l.Addr().String()+"/")
	err := s.Serve(l)
	if stop() { // the listener broke, and ctx has not ended
		return errors.Join(fmt.Errorf("serve %s: %w", l.Addr(), err), s.Close())
	}
	if err := <-stopped; err != nil {
		return fmt.Errorf("stop: running requests: %w", errors.Join(err, s.Close()))
	}
	return nil
}

// Listen opens the port that the environment variable names. Its error says how to fix it.
func Listen(variable string, addr config.Address) (net.Listener, error) {
	l, err := net.Listen("tcp", string(addr))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s: %s is in use by another program; stop that one or set %s to another address", variable, addr, variable)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	return l, nil
}
