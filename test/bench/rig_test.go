//go:build linux

package bench

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/test/process"
)

var (
	bin      = flag.String("bin", "../../bin", "folder of the programs")
	fsyncs   = flag.String("fsync", inMemory+",always", "durabilities of Redis: off writes no log, else a value of appendfsync")
	storePID = flag.Int("store-pid", 0, "process ID of the store of MONGO_URL on this machine, to measure its CPU time")
	more     []string // environment of the services
)

func init() {
	flag.Func("env", "`NAME=value` for the four services; may be repeated", func(v string) error { more = append(more, v); return nil })
}

const (
	inMemory = "off"            // the durability of a Redis that writes no log
	database = "milepost_bench" // the one that is used in the store of MONGO_URL
	peer     = "watermill"      // the build of the pipeline on Watermill
)

// rig is a Redis, a store, the programs and their clients.
type rig struct {
	dir, log string
	server   *stagetest.Server
	rdb      *redis.Client
	programs []*process.Process // all but the stages
	stages   []*process.Process
	client   *client // posts to web-api
	bare     *client // posts to the bare handler
}

// newRig starts a Redis. Everything ends with the benchmark.
func newRig(b *testing.B, fsync, db string) *rig {
	b.Helper()
	conf, err := filepath.Abs("../../charts/milepost/files/broker.conf")
	stagetest.OK(b, err)
	args := []string{"--include", conf, "--bind", "127.0.0.1", "--dir", b.TempDir(), "--appendonly", "no"}
	if fsync != inMemory {
		args = append(args, "--appendonly", "yes", "--appendfsync", fsync)
	}
	r := &rig{dir: b.TempDir(), server: stagetest.Real(b, args...)}
	r.rdb = r.server.Client()
	r.log = filepath.Join(r.dir, "sent_emails")
	if err := os.WriteFile(r.log, nil, 0o600); err != nil { // it is followed before the first line
		b.Fatal(err)
	}
	empty(b, db)
	b.Cleanup(func() { empty(b, db) })
	return r
}

// program makes a program of `make bench`; it is not started yet.
func (r *rig) program(b testing.TB, name string, up func(context.Context) error, args ...string) *process.Process {
	path, err := filepath.Abs(filepath.Join(*bin, name))
	stagetest.OK(b, err)
	p := process.New(b, name, path, args...)
	p.Up = up
	return p
}

// start starts the programs that do not run, and waits until all are up.
func start(all ...*process.Process) {
	for _, p := range all {
		if !p.Running() {
			p.Start()
		}
	}
	for _, p := range all {
		p.Ready()
	}
}

// stop lets the programs drain, one after the other.
func stop(all ...*process.Process) {
	for _, p := range all {
		p.Stop()
	}
}

// ready asks a program's admin port.
func ready(admin string) func(context.Context) error {
	return func(context.Context) error {
		answer, err := http.Get("http://" + admin + "/readyz")
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("readyz: %s", answer.Status)
		}
		return nil
	}
}

// listening asks only whether a port accepts connections.
func listening(address string) func(context.Context) error {
	return func(context.Context) error {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

// open prepares everything and starts what is no stage.
func open(b *testing.B, fsync string) *rig {
	b.Helper()
	r := newRig(b, fsync, database)
	store := os.Getenv("MONGO_URL")
	if store == "" {
		at := process.Addr(b)
		r.programs = append(r.programs, r.program(b, "standalone", listening(at), "store", "--listen", at, "--data", filepath.Join(r.dir, "documents")))
		store = "mongodb://" + at + "/"
	}
	web, bare := process.Addr(b), process.Addr(b)
	for _, name := range services {
		admin := process.Addr(b)
		p := r.program(b, name, ready(admin))
		p.Env = slices.Concat(p.Env, []string{
			"ADMIN_LISTEN=" + admin, "REDIS_URL=redis://" + r.server.Addr, "MONGO_URL=" + store, "MONGO_DATABASE=" + database,
			"SENT_EMAILS=" + r.log, "RATE_LIMIT=off", "ADDRESS_LIMIT=off", "LISTEN=" + web, "LOG_LEVEL=warn",
		}, more)
		if name == "web-api" {
			r.programs = append(r.programs, p)
		} else {
			r.stages = append(r.stages, p)
		}
	}
	r.programs = append(r.programs, r.program(b, "bare-echo", listening(bare), bare, r.server.Addr))
	start(r.programs...)
	r.client, r.bare = newClient(b, web, r.log), newClient(b, bare, "")
	return r
}

// openPeer starts the peer with a Redis of its own.
func openPeer(b *testing.B, fsync string) *rig {
	b.Helper()
	db := database + "_" + peer
	r := newRig(b, fsync, db)
	web := process.Addr(b)
	host, port, _ := net.SplitHostPort(r.server.Addr)
	for _, name := range services {
		p := r.program(b, peer, func(context.Context) error { return nil }, name) // a stream keeps what comes before
		p.Name = name
		p.Env = append(p.Env, "REDIS_HOST="+host, "REDIS_PORT="+port, "MONGO_URL="+os.Getenv("MONGO_URL"), "MONGO_DATABASE="+db, "SENT_EMAILS="+r.log, "LISTEN="+web)
		if name == "web-api" {
			p.Up = listening(web)
		}
		r.stages = append(r.stages, p)
	}
	start(r.stages...)
	r.client = newClient(b, web, r.log)
	return r
}

// pids are the processes that run, by name.
func (r *rig) pids() map[string]int {
	pids := map[string]int{"client": os.Getpid(), "redis": r.server.PID()}
	for _, p := range slices.Concat(r.programs, r.stages) {
		if p.Running() {
			pids[p.Name] = p.PID()
		}
	}
	if *storePID != 0 {
		pids["store"] = *storePID
	}
	return pids
}

// empty drops a database of the store of MONGO_URL, so that all runs are alike and nothing is left.
func empty(b testing.TB, db string) {
	url := os.Getenv("MONGO_URL")
	if url == "" {
		return
	}
	ctx := context.Background() // it is also called when the benchmark has ended
	client, err := mongo.Connect(options.Client().ApplyURI(url).SetTimeout(10 * time.Second))
	if err == nil {
		err = cmp.Or(client.Database(db).Drop(ctx), client.Disconnect(ctx))
	}
	if err != nil {
		b.Errorf("drop the database %s: %v", db, err)
	}
}

// durabilities are those of -fsync.
func durabilities(b testing.TB) []string {
	all := strings.Split(*fsyncs, ",")
	for _, f := range all {
		if !slices.Contains([]string{inMemory, "no", "everysec", "always"}, f) {
			b.Fatalf("-fsync: %q is not one of off, no, everysec, always", f)
		}
	}
	return all
}
