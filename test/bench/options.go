//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// InMemory is the durability of a Redis that keeps no log.
const InMemory = "off"

// Options say what to measure, and with what. There are no defaults but those named.
type Options struct {
	Source      string   // folder of the repository
	Bin         string   // folder of the programs
	RedisServer string   // its program; found by PATH
	BrokerConf  string   // Redis' configuration
	MongoURL    string   // the store; "": that of standalone, which is slow
	Fsync       []string // durabilities: InMemory, or a value of appendfsync
	Env         []string // more environment for the services, NAME=value

	Rounds         int
	Warm, Edge     time.Duration // before each measurement; of the edge, the bare handler, and nothing
	Light, Sustain time.Duration // of the whole pipeline at 100 a second, and as fast as it goes
	Connections    int           // of the client, each with one request under way at most
	Outstanding    int           // submissions that may be without a line while the whole pipeline is measured

	edgeRate int // submissions a second for the edge and the bare handler; 0: as fast as they are answered

	Profile  string    // a folder for the services' CPU profiles of the last round; "": none
	Progress io.Writer // what is being done
}

// Beside fills in what was not given: the programs beside the one that runs, and Redis' configuration as the repository
// has it beside their folder.
func (o *Options) Beside(executable func() (string, error)) error {
	if o.Bin == "" {
		path, err := executable()
		if err != nil {
			return fmt.Errorf("where this program is: %w", err)
		}
		o.Bin = filepath.Dir(path)
	}
	var err error
	if o.Bin, err = filepath.Abs(o.Bin); err != nil {
		return err
	}
	if o.BrokerConf == "" {
		o.BrokerConf = filepath.Join(o.Bin, "..", "charts", "milepost", "files", "broker.conf")
	}
	o.BrokerConf, err = filepath.Abs(o.BrokerConf)
	return err
}

// Short makes everything as short as it can be and still happen: enough for a test of the benchmark, with a store as slow as
// that of standalone, and nothing to compare.
func (o *Options) Short() {
	o.edgeRate = 200
	o.Rounds, o.Connections, o.Outstanding = 1, 8, 100
	o.Warm, o.Edge, o.Light, o.Sustain = 200*time.Millisecond, 300*time.Millisecond, time.Second, 2*time.Second
}

// errOptions is wrapped by the errors about the options.
var errOptions = errors.New("wrong option")

func (o *Options) check() error {
	for _, f := range o.Fsync {
		if f != InMemory && f != "always" && f != "everysec" && f != "no" {
			return fmt.Errorf("%w: appendfsync %q is not one of off (no log), no, everysec, always", errOptions, f)
		}
	}
	switch {
	case len(o.Fsync) == 0:
		return fmt.Errorf("%w: no durability to measure with", errOptions)
	case o.Rounds < 1 || o.Connections < 1 || o.Connections > 10_000 || o.Outstanding < 1:
		return fmt.Errorf("%w: rounds and outstanding must be at least 1, connections 1 to 10000", errOptions)
	case o.Edge <= 0 || o.Light <= 0 || o.Sustain <= 0 || o.Warm < 0:
		return fmt.Errorf("%w: a time to measure must be more than 0", errOptions)
	}
	needed := services
	if o.MongoURL == "" {
		needed = append([]string{"standalone"}, services...)
	}
	for _, name := range needed {
		if _, err := os.Stat(filepath.Join(o.Bin, name)); err != nil {
			return fmt.Errorf("program to measure: %w; `make build` puts them into bin/", err)
		}
	}
	if _, err := os.Stat(o.BrokerConf); err != nil {
		return fmt.Errorf("configuration of Redis: %w", err)
	}
	path, err := exec.LookPath(o.RedisServer)
	if err != nil {
		return fmt.Errorf("a redis-server is needed: %w", err)
	}
	o.RedisServer = path
	return nil
}
