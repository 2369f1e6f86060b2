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

// Store is FerretDB over SQLite: a document store whose data lies in a folder, kept between runs.
type Store struct {
	dir  string
	url  string
	lock *flock.Flock
	stop context.CancelFunc
	done sync.WaitGroup
}

// ErrLocked marks the error of a folder that another process uses.
var ErrLocked = errors.New("another process uses the folder")

// StartStore keeps documents in the folder dir, which it makes if need be, and listens on addr ("127.0.0.1:0" takes a
// free port). A folder in use gives an error wrapping [ErrLocked], an address in use one wrapping [ErrTaken].
// The store's own log lines go to log, errors only. The caller closes it.
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
	// FerretDB calls every error "failed to construct handler", so ask for the address ourselves first.
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

// URL is the store's mongodb:// address.
func (s *Store) URL() string { return s.url }

// Dir is the absolute path of the folder that holds the documents.
func (s *Store) Dir() string { return s.dir }

// Close ends the connections (giving clients that are still there 3 s), writes what is left to the folder and lets go
// of it.
func (s *Store) Close() error {
	s.stop()
	s.done.Wait()
	return s.lock.Close()
}

// errorsOnly drops what is below [slog.LevelError]: FerretDB tells of every connection.
type errorsOnly struct{ slog.Handler }

func (h errorsOnly) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelError && h.Handler.Enabled(ctx, level)
}

func (h errorsOnly) WithAttrs(attrs []slog.Attr) slog.Handler {
	return errorsOnly{h.Handler.WithAttrs(attrs)}
}

func (h errorsOnly) WithGroup(name string) slog.Handler { return errorsOnly{h.Handler.WithGroup(name)} }
