// Package cache is a read-through cache in Redis: Get returns a value from there, or loads it once,
// however many callers in however many processes ask for it at the same time, and keeps it.
//
// An entry is fresh for Options.TTL, less a random part, so that entries made together do not
// expire together. It is kept for Options.Stale longer, and returned, marked as stale, if loading
// it again fails or takes longer than Options.Slow. That a value does not exist is kept for
// Options.Missing. After a failed load nobody loads for Options.Pause.
//
// The cache never makes a call fail: while its Redis is away every process loads for itself, and an
// entry that cannot be read is ignored.
//
// Keys in Redis, of the cache "weather" and the key "city:paris":
//
//	cache:weather:city:paris        the entry, JSON
//	cache:weather:city:paris#lock   token of the process that loads it
package cache
