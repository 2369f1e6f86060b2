//go:build unix

package journal

import (
	"fmt"
	"os"
	"syscall"
)

// fileID returns the inode number of the file at path.
func fileID(path string) (uint64, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("%s: no inode number", path)
	}
	return uint64(st.Ino), nil //nolint:unconvert // its type differs between systems
}

// syncDir makes what was created or renamed in dir outlast a loss of power.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
