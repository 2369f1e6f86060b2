//go:build unix

package journal

import (
	"fmt"
	"os"
	"syscall"
)

// fileID returns the inode number of an open file.
func fileID(f *os.File) (uint64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return inode(fi)
}

// fileIDAt returns the inode number of the file at path.
func fileIDAt(path string) (uint64, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return inode(fi)
}

func inode(fi os.FileInfo) (uint64, error) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("%s: no inode number", fi.Name())
	}
	return uint64(st.Ino), nil //nolint:unconvert // its type differs between systems
}

// syncDir makes the names created or changed in dir outlast a loss of power.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
