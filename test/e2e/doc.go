// Package pipeline has no code but tests: they build the shipped programs and run them together,
// each as a process of its own, with a real redis-server and the document store of standalone
// between them.
package e2e
