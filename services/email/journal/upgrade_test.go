package journal

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newV1 makes a log of 11 events and its journal of version 1, which version 1 wrote: two sealed
// segments of 4 events, and one being written.
func newV1(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "log")
	if err := os.CopyFS(path+".journal", os.DirFS("testdata/v1")); err != nil {
		t.Fatal(err)
	}
	put(t, path, text(lines(0, 11)))
	return path
}

func TestUpgrade(t *testing.T) {
	path := newV1(t)
	header, _, _ := strings.Cut(content(t, filepath.Join(path+".journal", "00000003.records")), "\n")
	j := open(t, path)
	if identity := strings.Fields(header)[2]; j.Identity() != identity {
		t.Errorf("Identity() = %q, want that of version 1, %q", j.Identity(), identity)
	}
	wantKnown(t, j, 11, 12)
	write(t, j, lines(0, 12)...)
	closed(t, j)
	j = open(t, path)
	defer closed(t, j)
	wantKnown(t, j, 12, 13)
	wantContent(t, path, text(lines(0, 12)))
	if old, err := filepath.Glob(filepath.Join(path+".journal", "0000000[123].*")); err != nil || len(old) > 0 {
		t.Errorf("files of version 1 are left: %q, %v", old, err)
	}
	if h := content(t, filepath.Join(path+".journal", "00000004.records")); !strings.HasPrefix(h, "milepost-journal 2 ") {
		t.Errorf("new segment begins %.20q, want what version 1 refuses", h)
	}
}

// TestUpgradeUnfinished: lines that version 1 had begun are completed.
func TestUpgradeUnfinished(t *testing.T) {
	path := newV1(t)
	segment := filepath.Join(path+".journal", "00000003.records")
	records := content(t, segment)
	put(t, segment, records[:len(records)-1]+string(rune(begun)))
	whole := content(t, path)
	put(t, path, whole[:len(whole)-len(text(lines(10, 11)))])
	j := open(t, path)
	defer closed(t, j)
	wantKnown(t, j, 11, 12)
	wantContent(t, path, whole)
}

func TestUpgradeDamage(t *testing.T) {
	for name, change := range map[string]func(s string) string{
		"bit":             func(s string) string { return s[:len(s)-1] + string(s[len(s)-1]^1) },
		"cut":             func(s string) string { return s[:90] },
		"another journal": func(s string) string { return strings.Replace(s, " journal-", " journal-x", 1) },
	} {
		path := newV1(t)
		sealed := filepath.Join(path+".journal", "00000002.ids")
		put(t, sealed, change(content(t, sealed)))
		if _, err := Open(t.Context(), Options{Path: path, Log: quiet}); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: Open = %v, want %v", name, err, ErrDamaged)
		}
		if _, err := os.Stat(sealed); err != nil {
			t.Error(err)
		}
	}
}
