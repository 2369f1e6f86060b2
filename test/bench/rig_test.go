//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"go.mongodb.org/mongo-driver/v2/mongo"
	mongooptions "go.mongodb.org/mongo-driver/v2/mongo/options"
)

// rig is a Redis, a store, the programs and their clients.
type rig struct {
	options
	dir    string
	log    string
	db     string // the database in a given store
	fsync  string
	redis  *program
	rdb    *redis.Client
	store  *program // nil if mongoURL names a store
	web    *program
	bare   *program
	stages []*program
	peer   *rig    // the same pipeline built on Watermill, with a Redis of its own; nil: not measured
	client *client // posts to web-api
	simple *client // posts to the bare handler
}

func (r *rig) say(format string, args ...any) {
	fmt.Fprintf(r.progress, "bench: appendfsync "+r.fsync+": "+format+"\n", args...)
}

// database is the one that the bench uses in a given store.
const database = "milepost_bench"

// prepare makes the log, starts Redis and returns n more free addresses.
func (r *rig) prepare(ctx context.Context, n int) (redisAt string, others []string, err error) {
	r.log = filepath.Join(r.dir, "sent_emails")
	if err := os.WriteFile(r.log, nil, 0o600); err != nil { // it is followed before the first line
		return "", nil, err
	}
	for range n + 1 {
		at, err := freeAddress()
		if err != nil {
			return "", nil, err
		}
		others = append(others, at)
	}
	return others[0], others[1:], r.openRedis(ctx, others[0])
}

// open starts everything but the stages and the peer.
func (r *rig) open(ctx context.Context) error {
	redisAt, at, err := r.prepare(ctx, 3)
	if err != nil {
		return err
	}
	storeAt, webAt, bareAt := at[0], at[1], at[2]
	if r.mongoURL == "" {
		r.store = r.program("standalone", listening(storeAt), "store", "--listen", storeAt, "--data", filepath.Join(r.dir, "documents"))
		r.say("%s", r.storeName())
		if err := r.store.start(ctx); err != nil {
			return err
		}
	}
	env := append([]string{
		"REDIS_URL=redis://" + redisAt, "MONGO_URL=" + cmp.Or(r.mongoURL, "mongodb://"+storeAt+"/"), "MONGO_DATABASE=" + r.db,
		"SENT_EMAILS=" + r.log, "RATE_LIMIT=off", "ADDRESS_LIMIT=off", "LISTEN=" + webAt, "LOG_LEVEL=warn",
	}, r.env...)
	for _, name := range services {
		admin, err := freeAddress()
		if err != nil {
			return err
		}
		p := r.program(name, ready(admin))
		p.env = append([]string{"ADMIN_LISTEN=" + admin}, env...)
		if name == "web-api" {
			r.web = p
		} else {
			r.stages = append(r.stages, p)
		}
	}
	r.bare = r.program("bare-echo", listening(bareAt), bareAt, redisAt)
	err = errors.Join(r.web.start(ctx), r.bare.start(ctx))
	if err == nil {
		r.client, err = newClient(webAt, r.log)
	}
	if err == nil {
		r.simple, err = newClient(bareAt, "")
	}
	return err
}

// peerProgram is the build of the pipeline on Watermill. It is measured if it is there and the
// store is a given one: it looks documents up one at a time.
const peerProgram = "watermill"

// openPeer starts the peer's Redis and all its programs.
func (r *rig) openPeer(ctx context.Context) error {
	redisAt, at, err := r.prepare(ctx, 1)
	if err != nil {
		return err
	}
	webAt := at[0]
	host, port, err := net.SplitHostPort(redisAt)
	if err != nil {
		return err
	}
	for _, name := range services {
		p := r.program(name, func(context.Context) error { return nil }, name) // a stream keeps what comes before
		p.path = filepath.Join(r.bin, peerProgram)
		p.env = []string{"REDIS_HOST=" + host, "REDIS_PORT=" + port, "MONGO_URL=" + r.mongoURL, "MONGO_DATABASE=" + r.db, "SENT_EMAILS=" + r.log, "LISTEN=" + webAt}
		if name == "web-api" {
			r.web, p.up = p, listening(webAt)
		} else {
			r.stages = append(r.stages, p)
		}
	}
	if err := errors.Join(r.startStages(ctx), r.web.start(ctx)); err != nil {
		return err
	}
	r.client, err = newClient(webAt, r.log)
	return err
}

// startPeer starts the peer, if it was built; the first time with its Redis.
func (r *rig) startPeer(ctx context.Context) error {
	if r.peer != nil {
		r.peer.empty(ctx)
		return errors.Join(r.peer.startStages(ctx), r.peer.web.start(ctx))
	}
	if _, err := os.Stat(filepath.Join(r.bin, peerProgram)); err != nil {
		r.say("the build on Watermill is not measured: %v", err)
		return nil
	}
	dir := filepath.Join(r.dir, peerProgram)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	r.peer = &rig{options: r.options, dir: dir, fsync: r.fsync, db: database + "_" + peerProgram}
	return r.peer.openPeer(ctx)
}

// pause stops the peer's programs; its Redis stays.
func (r *rig) pause() error { return errors.Join(r.web.stop(), r.stopStages()) }

func (r *rig) openRedis(ctx context.Context, address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	args := []string{r.brokerConf, "--bind", "127.0.0.1", "--port", port, "--dir", r.dir, "--daemonize", "no"}
	if r.fsync == inMemory {
		args = append(args, "--appendonly", "no")
	} else {
		args = append(args, "--appendonly", "yes", "--appendfsync", r.fsync)
	}
	r.rdb = redis.NewClient(&redis.Options{Addr: address})
	r.redis = &program{name: "redis", path: r.redisServer, args: args, dir: r.dir, up: func(ctx context.Context) error { return r.rdb.Ping(ctx).Err() }}
	return r.redis.start(ctx)
}

func (r *rig) storeName() string {
	if r.mongoURL == "" {
		return "standalone's store, WHICH IS THE BOTTLENECK: it is made for trying and testing; name another with MONGO_URL"
	}
	return "the store of MONGO_URL"
}

// empty drops the database of a given store, so that all rounds are alike and nothing is left.
func (r *rig) empty(ctx context.Context) {
	if r.mongoURL == "" {
		return
	}
	client, err := mongo.Connect(mongooptions.Client().ApplyURI(r.mongoURL).SetTimeout(10 * time.Second))
	if err == nil {
		err = errors.Join(client.Database(r.db).Drop(ctx), client.Disconnect(ctx))
	}
	if err != nil {
		r.say("database %s is not dropped: %v", r.db, err)
	}
}

func (r *rig) program(name string, up func(context.Context) error, args ...string) *program {
	return &program{name: name, path: filepath.Join(r.bin, name), args: args, dir: r.dir, up: up}
}

func (r *rig) startStages(ctx context.Context) error {
	for _, p := range r.stages {
		if err := p.launch(); err != nil {
			return err
		}
	}
	for _, p := range r.stages {
		if err := p.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (r *rig) stopStages() (err error) {
	for _, p := range r.stages { // from the front, so that entries under way go through
		err = errors.Join(err, p.stop())
	}
	return err
}

func (r *rig) close() (err error) {
	if r.peer != nil {
		err = r.peer.close()
	}
	for _, c := range []*client{r.client, r.simple} {
		if c != nil {
			err = errors.Join(err, c.close())
		}
	}
	for _, p := range slices.Concat([]*program{r.web}, r.stages, []*program{r.bare, r.store}) {
		if p != nil {
			err = errors.Join(err, p.stop())
		}
	}
	r.empty(context.Background())
	if r.rdb != nil {
		_ = r.rdb.Close() // nothing was written
	}
	if r.redis != nil && r.redis.running() {
		_ = r.redis.cmd.Process.Kill() // a shutdown would save its data
		<-r.redis.ended
	}
	return err
}

// pids are the processes that run, by name.
func (r *rig) pids() map[string]int {
	pids := map[string]int{"client": os.Getpid()}
	for _, p := range slices.Concat([]*program{r.redis, r.store, r.web, r.bare}, r.stages) {
		if p != nil && p.running() {
			pids[p.name] = p.cmd.Process.Pid
		}
	}
	if r.storePID != 0 {
		pids["store"] = r.storePID
	}
	return pids
}
