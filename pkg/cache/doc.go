// Package cache reads through Redis: what is there is answered from there, what is not is loaded once, however many ask
// for it at the same time and in however many processes, and kept.
//
// An entry is fresh for Options.TTL, less a random part, so that entries made together do not end together. It stays for
// Options.Stale longer, to be served, marked, when it cannot be loaded anew or not soon enough (Options.Slow). That
// something does not exist is kept too, for Options.Missing. A failed load keeps everybody from trying again for
// Options.Pause.
//
// A cache must never be why something does not work. While its Redis is away every process loads for itself; an entry that
// cannot be read counts as none.
//
// Keys in Redis, of the cache "weather" and the key "city:paris":
//
//	cache:weather:city:paris        the entry, JSON
//	cache:weather:city:paris#lock   who loads it, or why the last load failed
package cache
