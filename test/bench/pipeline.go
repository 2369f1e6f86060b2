//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"
)

// rig is a Redis, a store and the programs of one setting.
type rig struct {
	Options
	dir    string
	fsync  string
	redis  *program
	rdb    *redis.Client
	store  *program // nil if one was given
	given  int      // process of the given store, 0 if it is not on this machine
	full   bool     // the given store does not drop databases
	web    *program
	bare   *program // nil if there is none
	stages []*program
	admin  map[string]string // addresses
	client *client           // posts to web-api
	simple *client           // posts to the bare handler
	door   map[*client]string
	say    func(format string, args ...any)
}

// Pipeline measures the whole pipeline, once for each of the durabilities.
func Pipeline(ctx context.Context, o Options) ([]Setting, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	var all []Setting
	for _, fsync := range o.Fsync {
		s, err := setting(ctx, o, fsync)
		if err != nil {
			return all, fmt.Errorf("appendfsync %s: %w", fsync, err)
		}
		all = append(all, s)
	}
	return all, nil
}

func setting(ctx context.Context, o Options, fsync string) (s Setting, err error) {
	dir, err := os.MkdirTemp("", "milepost-bench-")
	if err != nil {
		return s, err
	}
	r := &rig{Options: o, dir: dir, fsync: fsync, admin: map[string]string{}, door: map[*client]string{}, say: func(format string, args ...any) {
		fmt.Fprintf(o.Progress, "bench: appendfsync %s: "+format+"\n", append([]any{fsync}, args...)...)
	}}
	defer func() {
		err = errors.Join(err, r.close())
		if err == nil || ctx.Err() != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		} else {
			err = fmt.Errorf("%w\n(the programs' output is in %s)", err, dir)
		}
	}()
	if err := r.open(ctx); err != nil {
		return s, err
	}
	s = Setting{Fsync: fsync, Store: r.storeName(), Connections: o.Connections, Outstanding: o.Outstanding}
	for n := range o.Rounds {
		round, err := r.round(ctx, n+1)
		if err != nil {
			return s, err
		}
		s.Rounds = append(s.Rounds, round)
	}
	s.Median = medians(s.Rounds)
	s.Ledger = Ledger{Accepted: r.client.accepted - r.client.forgotten, Lines: r.client.written, Doubled: r.client.doubled}
	if s.Ledger.Accepted != s.Ledger.Lines || s.Ledger.Doubled > 0 {
		return s, fmt.Errorf("the ledger does not balance: %+v", s.Ledger)
	}
	return s, nil
}

func (r *rig) storeName() string {
	if r.store != nil {
		return "the store of standalone, WHICH IS THE BOTTLENECK: it is made for trying and testing. Name another with MONGO_URL"
	}
	return "a store given by MONGO_URL"
}

// database is the one in a given store that belongs to the bench.
const database = "milepost_bench"

// empty drops the database of a given store, so that all rounds are alike and nothing stays of them.
func (r *rig) empty(ctx context.Context) {
	if r.MongoURL == "" || r.full {
		return
	}
	err := func() error {
		client, err := mongo.Connect(options.Client().ApplyURI(r.MongoURL).SetTimeout(10 * time.Second))
		if err != nil {
			return err
		}
		return errors.Join(client.Database(database).Drop(ctx), client.Disconnect(ctx))
	}()
	if err != nil {
		r.full = true
		r.say("the database %s is not dropped between the rounds, and stays: %v", database, err)
	}
}

// open starts everything but the stages.
func (r *rig) open(ctx context.Context) error {
	log := filepath.Join(r.dir, "sent_emails")
	if err := os.WriteFile(log, nil, 0o600); err != nil { // to be watched before the first line
		return err
	}
	at := make([]string, 8)
	for i := range at {
		var err error
		if at[i], err = freeAddress(); err != nil {
			return err
		}
	}
	if err := r.openRedis(ctx, at[0]); err != nil {
		return err
	}
	store := r.MongoURL
	if store == "" {
		store = "mongodb://" + at[1] + "/"
		r.store = r.program("standalone", listening(at[1]), "store", "--listen", at[1], "--data", filepath.Join(r.dir, "documents"))
		r.say("%s", r.storeName())
		if err := r.store.start(ctx); err != nil {
			return err
		}
	}
	if u, err := url.Parse(r.MongoURL); err == nil && r.MongoURL != "" && loopback(u.Hostname()) {
		port, _ := strconv.Atoi(cmp.Or(u.Port(), "27017"))
		r.given = ownerOf(port)
	}
	env := append([]string{
		"REDIS_URL=redis://" + at[0], "MONGO_URL=" + store, "MONGO_DATABASE=" + database, "SENT_EMAILS=" + log,
		"RATE_LIMIT=off", "LISTEN=" + at[2], "LOG_LEVEL=warn",
	}, r.Env...)
	if r.Profile != "" {
		env = append(env, "PPROF=on")
	}
	for i, name := range services {
		r.admin[name] = at[3+i]
		p := r.program(name, ready(at[3+i]))
		p.env = append([]string{"ADMIN_LISTEN=" + at[3+i]}, env...)
		if name == "web-api" {
			r.web = p
		} else {
			r.stages = append(r.stages, p)
		}
	}
	if err := r.web.start(ctx); err != nil {
		return err
	}
	var err error
	if r.client, err = newClient(log); err != nil {
		return err
	}
	r.door[r.client] = at[2]
	if !r.hasBare() {
		return nil
	}
	bare := r.program("bare-echo", listening(at[7]), at[7], at[0])
	if err := bare.start(ctx); err != nil {
		return err
	}
	r.bare = bare
	if r.simple, err = newClient(""); err != nil {
		return err
	}
	r.door[r.simple] = at[7]
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (r *rig) openRedis(ctx context.Context, address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	args := []string{r.BrokerConf, "--bind", "127.0.0.1", "--port", port, "--dir", r.dir, "--daemonize", "no"}
	if r.fsync == InMemory {
		args = append(args, "--appendonly", "no")
	} else {
		args = append(args, "--appendonly", "yes", "--appendfsync", r.fsync)
	}
	r.rdb = redis.NewClient(&redis.Options{Addr: address})
	r.redis = &program{name: "redis", path: r.RedisServer, args: args, dir: r.dir, up: func(ctx context.Context) error { return r.rdb.Ping(ctx).Err() }}
	return r.redis.start(ctx)
}

func (r *rig) program(name string, up func(context.Context) error, args ...string) *program {
	return &program{name: name, path: filepath.Join(r.Bin, name), args: args, dir: r.dir, up: up}
}

func (r *rig) hasBare() bool {
	_, err := os.Stat(filepath.Join(r.Bin, "bare-echo"))
	if err != nil {
		r.say("no bare handler to compare the edge with: go build -o %s ./test/bench/bare-echo", r.Bin)
	}
	return err == nil
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
	for _, p := range r.stages { // from the front, so that what is under way goes through
		err = errors.Join(err, p.stop())
	}
	return err
}

func (r *rig) close() (err error) {
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
	if r.redis != nil && r.redis.cmd != nil {
		_ = r.redis.cmd.Process.Kill() // a shutdown would save what nobody needs
		<-r.redis.ended
	}
	return err
}

// round measures everything once. The stages are stopped when it begins and when it ends.
func (r *rig) round(ctx context.Context, n int) (round Round, err error) {
	if n == 1 { // the groups are made, so that the edge knows whom it publishes for
		if err := errors.Join(r.startStages(ctx), r.stopStages()); err != nil {
			return round, err
		}
	}
	r.empty(ctx)
	last := n == r.Rounds
	for _, part := range []struct {
		name    string
		takes   time.Duration
		into    *Stretch
		measure func() (Stretch, error)
	}{
		{"the edge alone", r.Warm + r.Edge, &round.Edge, func() (Stretch, error) {
			return r.measure(ctx, r.client, drive{warm: r.Warm, measure: r.Edge, rate: r.edgeRate})
		}},
		{"the bare handler", r.Warm + r.Edge, &round.Bare, func() (Stretch, error) { return r.measureBare(ctx) }},
		{"the stages alone", 0, &round.Drain, func() (Stretch, error) { return r.drain(ctx) }},
		{fmt.Sprintf("%d a second, from POST to line", lightly), r.Warm + r.Light, &round.Light, func() (Stretch, error) {
			return r.measure(ctx, r.client, drive{warm: r.Warm, measure: r.Light, rate: lightly, outstanding: r.Outstanding})
		}},
		{"from POST to line", r.Warm + r.Sustain, &round.Pipeline, func() (Stretch, error) {
			profiled := func() error { return nil }
			if r.Profile != "" && last {
				profiled = r.profile(ctx, r.Warm+r.Sustain)
			}
			s, err := r.measure(ctx, r.client, drive{warm: r.Warm, measure: r.Sustain, outstanding: r.Outstanding})
			return s, errors.Join(err, profiled())
		}},
	} {
		switch {
		case part.into == &round.Bare && r.bare == nil:
			continue
		case part.into == &round.Drain && r.store != nil && r.edgeRate == 0:
			r.say("what the edge left is thrown away: the store of standalone would take very long for it")
			r.client.forget()
			if err := errors.Join(r.rdb.FlushAll(ctx).Err(), r.startStages(ctx)); err != nil {
				return round, err
			}
			continue
		}
		r.say("round %d of %d: %s%s", n, r.Rounds, part.name, lasting(part.takes))
		if *part.into, err = part.measure(); err != nil {
			return round, fmt.Errorf("%s: %w", part.name, err)
		}
		r.say("round %d of %d: %s: %.0f/s", n, r.Rounds, part.name, part.into.Rate)
	}
	if round.Idle, err = r.idle(ctx); err != nil {
		return round, err
	}
	return round, r.stopStages()
}

func lasting(d time.Duration) string {
	if d == 0 {
		return " …"
	}
	return fmt.Sprintf(", %s …", d)
}

func (r *rig) measureBare(ctx context.Context) (Stretch, error) {
	s, err := r.measure(ctx, r.simple, drive{warm: r.Warm, measure: r.Edge, rate: r.edgeRate})
	return s, errors.Join(err, r.rdb.Del(ctx, "bare").Err())
}

// idle is what the pipeline asks of Redis while nobody submits, and how long a bare PING takes.
func (r *rig) idle(ctx context.Context) (Idle, error) {
	from, err := read(ctx, nil, r.rdb)
	if err != nil {
		return Idle{}, err
	}
	select {
	case <-ctx.Done():
		return Idle{}, ctx.Err()
	case <-time.After(r.Edge):
	}
	to, err := read(ctx, nil, r.rdb)
	if err != nil {
		return Idle{}, err
	}
	pings := make([]time.Duration, 200)
	for i := range pings {
		begin := time.Now()
		if err := r.rdb.Ping(ctx).Err(); err != nil {
			return Idle{}, err
		}
		pings[i] = time.Since(begin)
	}
	slices.Sort(pings)
	return Idle{
		RoundTrips: (to.reads - from.reads - 1) / to.at.Sub(from.at).Seconds(), // one was ours
		Ping:       *timesOf(pings),
	}, nil
}

// measure drives a client and says what it cost.
func (r *rig) measure(ctx context.Context, c *client, d drive) (Stretch, error) {
	var from, to reading
	pids := r.pids()
	d.begin = func() (err error) { from, err = read(ctx, pids, r.rdb); return err }
	d.end = func() (err error) { to, err = read(ctx, pids, r.rdb); return err }
	c.aim(r.door[c], r.Connections)
	got, err := c.run(ctx, d)
	if err != nil {
		return Stretch{}, err
	}
	if len(c.status) > 1 || c.status[http.StatusCreated] == 0 {
		return Stretch{}, fmt.Errorf("answers other than 201, by status: %v; 503 is a full Redis or backlog (shorten --edge)", c.status)
	}
	s := Stretch{Seconds: got.seconds, Events: got.accepted, Post: timesOf(got.posts)}
	if d.outstanding > 0 {
		s.Events, s.Line, s.Outstanding = got.written, timesOf(got.lines), backlogOf(got.outstanding)
	}
	return s.costing(from, to, pids)
}

// costing adds to a stretch what it took.
func (s Stretch) costing(from, to reading, pids map[string]int) (_ Stretch, err error) {
	if s.Events == 0 {
		return s, errors.New("nothing came through while it was measured")
	}
	s.Rate, s.Cost = float64(s.Events)/s.Seconds, spent(from, to, s.Events)
	s.Resident, s.Peak, err = residents(pids)
	return s, err
}

// drain starts the stages and measures what they do with what the edge left, their start included.
func (r *rig) drain(ctx context.Context) (s Stretch, err error) {
	begun := r.client.written
	from, err := read(ctx, r.pids(), r.rdb)
	if err != nil {
		return s, err
	}
	if err := r.startStages(ctx); err != nil {
		return s, err
	}
	pids := r.pids()
	// Nothing is sent; it only reads the log until everything has its line.
	if _, err := r.client.run(ctx, drive{outstanding: 1}); err != nil {
		return s, err
	}
	to, err := read(ctx, pids, r.rdb)
	if err != nil {
		return s, err
	}
	s.Events, s.Seconds = r.client.written-begun, to.at.Sub(from.at).Seconds()
	return s.costing(from, to, pids)
}

// pids are the processes that run, by name.
func (r *rig) pids() map[string]int {
	pids := map[string]int{"client": os.Getpid()}
	for _, p := range slices.Concat([]*program{r.redis, r.store, r.web, r.bare}, r.stages) {
		if p != nil && p.running() {
			pids[p.name] = p.cmd.Process.Pid
		}
	}
	if r.given != 0 {
		pids["store"] = r.given
	}
	return pids
}

func residents(pids map[string]int) (now, most map[string]float64, err error) {
	now, most = map[string]float64{}, map[string]float64{}
	for name, pid := range pids {
		if now[name], most[name], err = residentOf(pid); err != nil {
			return now, most, err
		}
	}
	return now, most, nil
}

// profile asks the services for CPU profiles of the time to come. The function it returns waits for them.
func (r *rig) profile(ctx context.Context, d time.Duration) (wait func() error) {
	if err := os.MkdirAll(r.Profile, 0o755); err != nil {
		return func() error { return err }
	}
	var all errgroup.Group
	for name, at := range r.admin {
		all.Go(func() error {
			q, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", at, max(1, int(d.Seconds()))), nil)
			if err != nil {
				return err
			}
			a, err := http.DefaultClient.Do(q)
			if err != nil {
				return err
			}
			defer a.Body.Close()
			if a.StatusCode != http.StatusOK {
				return fmt.Errorf("profile of %s: %s", name, a.Status)
			}
			f, err := os.Create(filepath.Join(r.Profile, name+"-"+r.fsync+".prof"))
			if err != nil {
				return err
			}
			_, err = io.Copy(f, a.Body)
			return errors.Join(err, f.Close())
		})
	}
	return all.Wait
}
