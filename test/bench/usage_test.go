//go:build linux

package main

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"github.com/redis/go-redis/v9"
)

// machine describes where a report was made, as far as the system tells.
func machine(redisServer string) string {
	cpu, kernel := "", ""
	if fs, err := procfs.NewDefaultFS(); err == nil {
		if all, err := fs.CPUInfo(); err == nil && len(all) > 0 {
			cpu = all[0].ModelName
		}
		words, _ := fs.SysctlStrings("kernel.osrelease")
		kernel = strings.Join(words, " ")
	}
	out, _ := exec.Command(redisServer, "--version").Output()
	redis, _, _ := strings.Cut(strings.TrimPrefix(string(out), "Redis server v="), " sha=")
	return fmt.Sprintf("%s, %d cores; Linux %s; redis-server %s; %s", cpu, runtime.NumCPU(), kernel, redis, runtime.Version())
}

// reading is what was used up to a moment.
type reading struct {
	at             time.Time
	cpu            map[string]float64 // seconds, by process
	resident, peak map[string]float64 // MB, by process
	busy, stolen   float64            // CPU seconds of the machine; of them, those that the host gave to others
	calls          map[string]float64 // Redis commands, those inside scripts too
	used           float64            // bytes in Redis
	reads          float64            // requests, or pipelines of requests, that Redis read
}

// read takes a reading of the processes and of Redis.
func read(ctx context.Context, pids map[string]int, rdb *redis.Client) (reading, error) {
	r := reading{at: time.Now(), cpu: map[string]float64{}, resident: map[string]float64{}, peak: map[string]float64{}, calls: map[string]float64{}}
	info, err := rdb.InfoMap(ctx, "commandstats", "stats", "memory").Result()
	if err != nil {
		return r, fmt.Errorf("INFO: %w", err)
	}
	for name, value := range info["Commandstats"] {
		calls, _, _ := strings.Cut(strings.TrimPrefix(value, "calls="), ",")
		r.calls[strings.TrimPrefix(name, "cmdstat_")], _ = strconv.ParseFloat(calls, 64)
	}
	r.used, _ = strconv.ParseFloat(info["Memory"]["used_memory_dataset"], 64)
	r.reads, _ = strconv.ParseFloat(info["Stats"]["total_reads_processed"], 64)

	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return r, err
	}
	for name, pid := range pids {
		if err := r.process(fs, name, pid); err != nil {
			return r, fmt.Errorf("usage of %s: %w", name, err)
		}
	}
	all, err := fs.Stat()
	c := all.CPUTotal
	r.busy, r.stolen = c.User+c.Nice+c.System+c.IRQ+c.SoftIRQ, c.Steal
	return r, err
}

func (r reading) process(fs procfs.FS, name string, pid int) error {
	p, err := fs.Proc(pid)
	if err != nil {
		return err
	}
	stat, err := p.Stat()
	if err != nil {
		return err
	}
	status, err := p.NewStatus()
	r.cpu[name], r.resident[name], r.peak[name] = stat.CPUTime(), float64(status.VmRSS)/(1<<20), float64(status.VmHWM)/(1<<20)
	return err
}

// spent is what a stretch cost for each of its events.
func spent(from, to reading, events int) cost {
	c := cost{CPU: map[string]float64{}, Commands: map[string]float64{}, Resident: to.resident, Peak: to.peak}
	n := float64(events)
	known := 0.0
	for name, s := range to.cpu {
		c.CPU[name] = (s - from.cpu[name]) / n * 1000
		known += s - from.cpu[name]
	}
	c.Elsewhere = max(0, to.busy-from.busy-known) / n * 1000
	c.Stolen = (to.stolen - from.stolen) / n * 1000
	for name, calls := range to.calls {
		if d := (calls - from.calls[name]) / n; d > 0.0005 {
			c.Commands[name] = d
		}
	}
	c.Left = (to.used - from.used) / n
	c.RoundTrips = (to.reads - from.reads) / n
	return c
}
