package journal

import (
	"os"
	"syscall"
)

// fileID returns the index of an open file in its volume.
func fileID(f *os.File) (uint64, error) {
	var info syscall.ByHandleFileInformation
	if err := syscall.GetFileInformationByHandle(syscall.Handle(f.Fd()), &info); err != nil {
		return 0, &os.PathError{Op: "GetFileInformationByHandle", Path: f.Name(), Err: err}
	}
	return uint64(info.FileIndexHigh)<<32 | uint64(info.FileIndexLow), nil
}

// fileIDAt returns the index of the file at path in its volume.
func fileIDAt(path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return fileID(f)
}

// syncDir does nothing: Windows has no such call, and NTFS journals its directories.
func syncDir(string) error { return nil }
