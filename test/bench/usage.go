//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// ticks is the unit of CPU time in /proc, which Linux fixes at a hundredth of a second for programs on all systems Go runs
// on.
const ticks = 100

// cpuOf is the CPU time, in seconds, that a process has used.
func cpuOf(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the name in parentheses, which may hold anything; user and system time are the 14th and 15th.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, b)
	}
	return sum(fields[11:13]) / ticks, nil
}

// machineCPU is the CPU time, in seconds, that all processes and the kernel have used, and what the host gave to others.
func machineCPU() (busy, stolen float64, err error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal …
	if len(f) < 9 {
		return 0, 0, fmt.Errorf("/proc/stat: %q", line)
	}
	return (sum(f[1:4]) + sum(f[6:8])) / ticks, sum(f[8:9]) / ticks, nil
}

func sum(fields []string) (s float64) {
	for _, f := range fields {
		n, _ := strconv.ParseFloat(f, 64) // the kernel writes numbers
		s += n
	}
	return s
}

// residentOf is the memory, in MB, that a process holds now and held at most.
func residentOf(pid int) (now, most float64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "VmRSS":
			now = sum(strings.Fields(value)[:1]) / 1024
		case "VmHWM":
			most = sum(strings.Fields(value)[:1]) / 1024
		}
	}
	return now, most, nil
}

// reading is what has been used up to a moment.
type reading struct {
	at           time.Time
	cpu          map[string]float64 // seconds, by process
	busy, stolen float64            // of the machine
	calls        map[string]float64 // of Redis commands
	reads        float64            // requests, or pipelines of them, that Redis read from a connection
}

func read(ctx context.Context, pids map[string]int, rdb *redis.Client) (reading, error) {
	r := reading{at: time.Now(), cpu: map[string]float64{}, calls: map[string]float64{}}
	info, err := rdb.Info(ctx, "commandstats", "stats").Result()
	if err != nil {
		return r, fmt.Errorf("INFO: %w", err)
	}
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if command, ok := strings.CutPrefix(name, "cmdstat_"); ok {
			calls, _, _ := strings.Cut(strings.TrimPrefix(value, "calls="), ",")
			r.calls[command] = sum([]string{calls})
		} else if name == "total_reads_processed" {
			r.reads = sum([]string{value})
		}
	}
	for name, pid := range pids {
		if r.cpu[name], err = cpuOf(pid); err != nil {
			return r, fmt.Errorf("CPU time of %s: %w", name, err)
		}
	}
	r.busy, r.stolen, err = machineCPU()
	return r, err
}

// spent is what one stretch cost for each of its events.
func spent(from, to reading, events int) Cost {
	c := Cost{CPU: map[string]float64{}, Commands: map[string]float64{}}
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
	c.RoundTrips = (to.reads - from.reads) / n
	return c
}

// ownerOf is the process that listens on a TCP port of this machine, 0 if it is not to be found: on another machine, in
// a container, or another user's.
func ownerOf(port int) int {
	inode := ""
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line) // sl local remote state queues timer retransmits uid timeout inode …
			if len(f) > 9 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				inode = f[9]
			}
		}
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil || inode == "" {
		return 0
	}
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && to == "socket:["+inode+"]" {
			pid, _ := strconv.Atoi(strings.Split(l, "/")[2])
			return pid
		}
	}
	return 0
}
