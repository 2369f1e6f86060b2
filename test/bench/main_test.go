//go:build linux

package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// What cannot be measured is reported before anything starts. That measuring works is tested with
// the programs, in test/e2e.
func TestRefuses(t *testing.T) {
	for _, tc := range []struct {
		options bool // wrapping errOptions
		says    string
		args    []string
	}{
		{true, `"sometimes"`, []string{"-fsync", "sometimes"}},
		{true, "rounds", []string{"-rounds", "0"}},
		{true, "wallpaper", []string{"wallpaper"}},
		{true, "frobnicate", []string{"-frobnicate"}},
		{false, "make bench", []string{"-bin", t.TempDir()}},
	} {
		var stdout, stderr bytes.Buffer
		err := run(t.Context(), tc.args, func(string) string { return "" }, &stdout, &stderr)
		if err == nil || errors.Is(err, errOptions) != tc.options || !strings.Contains(err.Error(), tc.says) || stdout.Len() > 0 {
			t.Errorf("bench %q: %v; want an error with %q; stdout: %s", tc.args, err, tc.says, &stdout)
		}
	}
}
