//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// Machine is where a report was made.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory string `json:"memory"`
	System string `json:"system"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"` // that built this program
	Redis  string `json:"redis"`
	Load   string `json:"load"` // of the last 1, 5 and 15 minutes, before anything was measured
}

func (m Machine) String() string {
	return fmt.Sprintf("%s, %d cores, %s memory; %s %s; %s; %s; load before: %s", m.CPU, m.Cores, m.Memory, m.System, m.Kernel, m.Redis, m.Go, m.Load)
}

// NewReport is a report without figures.
func NewReport(o Options) Report {
	return Report{At: time.Now().UTC().Truncate(time.Second), Machine: describe(o.RedisServer)}
}

// describe asks the system; what it does not tell is "?". RedisServer is the program.
func describe(redisServer string) Machine {
	m := Machine{
		CPU: field("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), Memory: field("/proc/meminfo", "MemTotal"),
		System: runtime.GOOS + "/" + runtime.GOARCH, Kernel: first("/proc/sys/kernel/osrelease"), Go: runtime.Version(),
		Redis: "?", Load: strings.Join(strings.Fields(first("/proc/loadavg") + " ? ? ?")[:3], " "),
	}
	if out, err := exec.Command(redisServer, "--version").Output(); err == nil {
		for word := range strings.FieldsSeq(string(out)) {
			if v, ok := strings.CutPrefix(word, "v="); ok {
				m.Redis = "redis-server " + v
			}
		}
	}
	return m
}

func first(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "?"
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return line
}

func field(path, name string) string {
	b, err := os.ReadFile(path)
	if err == nil {
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
				return strings.TrimSpace(v)
			}
		}
	}
	return "?"
}
