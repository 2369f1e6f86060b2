package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/FerretDB/FerretDB/ferretdb"
	"github.com/gofrs/flock"
)

// Store is FerretDB over SQLite: a document store that keeps its data in a folder.
type Store struct {
	dir  string
	url  string
	lock *flock.Flock
	stop context.CancelFunc
	done sync.WaitGroup
}

// ErrLocked: another process uses the folder.
var ErrLocked = errors.New("another process uses the folder")

// StartStore starts a store that keeps documents in the folder dir, which it makes if needed, and
// listens on addr ("127.0.0.1:0" takes a free port). If the folder is in use, the error wraps
// [ErrLocked]; if the address is, [ErrTaken]. It logs FerretDB's errors to log. The caller closes
// it.
func StartStore(dir, addr string, log *slog.Logger) (_ *Store, err error) {
	s := &Store{}
	if s.dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("embedded store: %w", err)
	}
	if strings.ContainsAny(s.dir, "?#%") {
		return nil, fmt.Errorf("embedded store: folder %q: its path must not contain ?, # or %%", s.dir)
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded store: %w", err)
	}
	s.lock = flock.New(filepath.Join(s.dir, "lock"))
	switch held, err := s.lock.TryLock(); {
	case err != nil:
		return nil, fmt.Errorf("embedded store: lock folder %q: %w", s.dir, err)
	case !held:
		return nil, fmt.Errorf("embedded store: folder %q: %w", s.dir, ErrLocked)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.lock.Close())
		}
	}()
	// FerretDB returns "failed to construct handler" for every error, so try the address first.
	if probe, err := net.Listen("tcp", addr); err != nil {
		return nil, fmt.Errorf("embedded store: %w", taken(addr, err))
	} else if err := probe.Close(); err != nil {
		return nil, fmt.Errorf("embedded store: %w", err)
	}

	db, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: addr},
		Handler:   "sqlite",
		SQLiteURL: (&url.URL{Scheme: "file", Opaque: filepath.ToSlash(s.dir) + "/"}).String(),
		Logger:    slog.New(errorsOnly{log.Handler()}),
	})
	if err != nil {
		return nil, fmt.Errorf("embedded store in %q: %w", s.dir, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.done.Go(func() { _ = db.Run(ctx) }) // it always returns nil
	s.url = db.MongoDBURI()
	return s, nil
}

func (s *Store) URL() string { return s.url }

func (s *Store) Dir() string { return s.dir }

// Close ends the connections, after 3 s if clients are still connected, writes all data to the
// folder and releases it.
func (s *Store) Close() error {
	s.stop()
	s.done.Wait()
	return s.lock.Close()
}

// errorsOnly drops records below [slog.LevelError]: FerretDB logs every connection.
type errorsOnly struct{ slog.Handler }

func (h errorsOnly) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelError && h.Handler.Enabled(ctx, level)
}

func (h errorsOnly) WithAttrs(attrs []slog.Attr) slog.Handler {
	return errorsOnly{h.Handler.WithAttrs(attrs)}
}

func (h errorsOnly) WithGroup(name string) slog.Handler { return errorsOnly{h.Handler.WithGroup(name)} }
