package embedded_test

import (
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"testing"

	"github.com/milepost/milepost/services/standalone/embedded"
)

var quiet = slog.New(slog.DiscardHandler)

// startStore starts a store over dir for the time of the test.
func startStore(t *testing.T, dir string) *embedded.Store {
	t.Helper()
	s, err := embedded.StartStore(dir, "127.0.0.1:0", quiet)
	if err != nil {
		t.Fatalf("StartStore(%q) = %v", dir, err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func TestStoreFolderIsUsedOnce(t *testing.T) {
	dir := t.TempDir()
	s := startStore(t, dir)
	if second, err := embedded.StartStore(dir, "127.0.0.1:0", quiet); !errors.Is(err, embedded.ErrLocked) {
		t.Errorf("second StartStore(%q) = %v, %v; want ErrLocked", dir, second, err)
	}
	if s.Dir() != dir {
		t.Errorf("Dir() = %q; want %q", s.Dir(), dir)
	}
}

func TestStoreAddressTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	if s, err := embedded.StartStore(dir, l.Addr().String(), quiet); !errors.Is(err, embedded.ErrTaken) {
		t.Errorf("StartStore on a taken address = %v, %v; want ErrTaken", s, err)
	}
	startStore(t, dir) // the failed start let go of the folder
}

func TestStoreRefusesFolderItCannotName(t *testing.T) {
	for _, name := range []string{"50%", "a?b", "a#b"} {
		dir := filepath.Join(t.TempDir(), name)
		if s, err := embedded.StartStore(dir, "127.0.0.1:0", quiet); err == nil {
			t.Errorf("StartStore(%q) = nil error; want one", dir)
			_ = s.Close()
		}
	}
	startStore(t, filepath.Join(t.TempDir(), "made on the way", "with spaces"))
}
