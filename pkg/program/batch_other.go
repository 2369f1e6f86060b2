//go:build !linux

package program

// scheduleInBatches does nothing: only Linux has the class.
func scheduleInBatches() error { return nil }
