// Package bench measures Milepost on this machine, from POST to log line: BenchmarkPipeline runs
// the programs as processes of their own over a redis-server of their own. See README.md. There is
// nothing in it to import.
package bench
