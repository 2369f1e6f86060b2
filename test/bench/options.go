//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// inMemory is the durability of a Redis that writes no log.
const inMemory = "off"

// options say what to measure, and with what.
type options struct {
	source      string   // folder of the repository
	bin         string   // folder of the programs
	redisServer string   // path of redis-server
	brokerConf  string   // Redis configuration
	mongoURL    string   // the store; "": standalone's, which is slow
	fsync       []string // durabilities: inMemory, or a value of appendfsync
	env         []string // more environment for the services, NAME=value

	rounds         int
	warm, edge     time.Duration // warm-up; of the edge, the bare handler, and the idle pipeline
	light, sustain time.Duration // of the whole pipeline at 100 a second, and at full speed
	connections    int           // of the client, one request at a time each
	outstanding    int           // most submissions without a log line at full speed
	edgeRate       int           // submissions a second for the edge and the bare handler; 0: unlimited

	storePID int    // process of the store, to measure its CPU time; 0: unknown
	out      string // folder for the report; "": none
	progress io.Writer
}

// errOptions is wrapped by the errors about the options.
var errOptions = errors.New("wrong option")

func parse(args []string, getenv func(string) string, stderr io.Writer) (*options, error) {
	o := &options{
		progress: stderr, mongoURL: getenv("MONGO_URL"), connections: 128, outstanding: 2000,
		warm: 2 * time.Second, edge: 5 * time.Second, light: 10 * time.Second, sustain: 15 * time.Second,
	}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.out, "out", "", "folder for report.json (default: not written)")
	f.StringVar(&o.source, "source", ".", "folder of the repository")
	f.StringVar(&o.bin, "bin", "bin", "folder of the programs")
	f.Func("env", "`NAME=value` for the four services; may be repeated", func(v string) error { o.env = append(o.env, v); return nil })
	fsync := f.String("fsync", inMemory+",always", "durabilities of Redis: off writes no log, else a value of appendfsync")
	f.IntVar(&o.rounds, "rounds", 3, "how often everything is measured; the table shows medians")
	f.IntVar(&o.storePID, "store-pid", 0, "process ID of the store on this machine, to measure its CPU time")
	short := f.Bool("short", false, "measure everything as briefly as possible: shows that it works")
	if err := f.Parse(args); err != nil {
		return nil, fmt.Errorf("%w: %w", errOptions, err)
	}
	if *short { // slow enough for standalone's store
		o.rounds, o.connections, o.outstanding, o.edgeRate = 1, 8, 100, 200
		o.warm, o.edge, o.light, o.sustain = 200*time.Millisecond, 300*time.Millisecond, time.Second, 2*time.Second
	}
	o.fsync = strings.Split(*fsync, ",")
	if f.NArg() > 0 {
		return nil, fmt.Errorf("%w: unexpected argument %q", errOptions, f.Arg(0))
	}
	return o, o.check()
}

// check refuses what cannot be measured, and finds the programs.
func (o *options) check() (err error) {
	for _, f := range o.fsync {
		if !slices.Contains([]string{inMemory, "no", "everysec", "always"}, f) {
			return fmt.Errorf("%w: -fsync: %q is not one of off, no, everysec, always", errOptions, f)
		}
	}
	if o.rounds < 1 {
		return fmt.Errorf("%w: -rounds must be at least 1", errOptions)
	}
	o.brokerConf = filepath.Join(o.source, "charts", "milepost", "files", "broker.conf")
	for _, path := range []*string{&o.bin, &o.brokerConf} { // the programs run in another folder
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	needed := append([]string{"bare-echo"}, services...)
	if o.mongoURL == "" {
		needed = append(needed, "standalone")
	}
	for _, name := range needed {
		if _, err := os.Stat(filepath.Join(o.bin, name)); err != nil {
			return fmt.Errorf("a program to measure is missing: %w; `make bench` builds them into bin/", err)
		}
	}
	if _, err := os.Stat(o.brokerConf); err != nil {
		return fmt.Errorf("Redis configuration: %w; -source names the repository", err)
	}
	if o.redisServer, err = exec.LookPath("redis-server"); err != nil {
		return fmt.Errorf("a redis-server is needed: %w", err)
	}
	return nil
}
