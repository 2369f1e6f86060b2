package embedded_test

import (
	"log/slog"
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
