//go:build !linux

package process

// scheduleInBatches does nothing: only Linux has the class.
func scheduleInBatches() error { return nil }
