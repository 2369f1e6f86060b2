//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

// fewConnections are those of a busy browser or a small site.
const fewConnections = 32

// lightly is a rate, in submissions a second, that leaves the machine mostly idle.
const lightly = 100

// measurePipeline measures the programs, once for each durability of Redis.
func measurePipeline(ctx context.Context, o options) (all []setting, err error) {
	for _, fsync := range o.fsync {
		s, err := measureSetting(ctx, o, fsync)
		if err != nil {
			return all, fmt.Errorf("appendfsync %s: %w", fsync, err)
		}
		all = append(all, s)
	}
	return all, nil
}

func measureSetting(ctx context.Context, o options, fsync string) (s setting, err error) {
	dir, err := os.MkdirTemp("", "milepost-bench-")
	if err != nil {
		return s, err
	}
	r := &rig{options: o, dir: dir, fsync: fsync, db: database}
	defer func() {
		err = errors.Join(err, r.close())
		if err == nil || ctx.Err() != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		} else {
			err = fmt.Errorf("%w\n(the output of the programs is in %s)", err, dir)
		}
	}()
	// The stages make their groups, so that the edge publishes for the same readers in each
	// round.
	if err := r.open(ctx); err != nil {
		return s, err
	}
	if err := errors.Join(r.startStages(ctx), r.stopStages()); err != nil {
		return s, err
	}
	s = setting{Fsync: fsync, Store: r.storeName(), Connections: o.connections, Outstanding: o.outstanding}
	for n := range o.rounds {
		round, err := r.round(ctx, n+1)
		if err != nil {
			return s, err
		}
		s.Rounds = append(s.Rounds, round)
	}
	s.Median = medians(s.Rounds)
	c := r.client
	if r.peer != nil {
		p := r.peer.client
		s.Peer = &balance{Accepted: p.accepted, Lines: p.written, Doubled: p.doubled}
	}
	s.Ledger = balance{Accepted: c.accepted - c.forgotten, Lines: c.written, Doubled: c.doubled}
	if s.Ledger.Accepted != s.Ledger.Lines || s.Ledger.Doubled > 0 {
		return s, fmt.Errorf("the ledger does not balance: %+v", s.Ledger)
	}
	return s, nil
}

// round measures everything once. The stages are stopped when it begins and when it ends.
func (r *rig) round(ctx context.Context, n int) (round round, err error) {
	r.empty(ctx)
	step := func(name string, into *stretch, measure func() (stretch, error)) {
		if err != nil {
			return
		}
		r.say("round %d of %d: %s …", n, r.rounds, name)
		if *into, err = measure(); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
			return
		}
		r.say("round %d of %d: %s: %.0f/s", n, r.rounds, name, into.Rate)
	}
	edge := drive{posting: asJSON, connections: r.connections, warm: r.warm, measure: r.edge, rate: r.edgeRate}
	formEdge := edge
	formEdge.posting = asForm
	full := drive{posting: asForm, connections: r.connections, warm: r.warm, measure: r.sustain, outstanding: r.outstanding}
	few, light, asJSONs := full, full, full
	few.connections = min(fewConnections, r.connections)
	light.rate, light.measure = lightly, r.light
	asJSONs.posting = asJSON
	lightJSON := light
	lightJSON.posting = asJSON
	measure := func(name string, into *stretch, from *rig, c *client, d drive) {
		step(name, into, func() (stretch, error) { return from.measure(ctx, c, d) })
	}
	measure("edge, JSON", &round.Edge, r, r.client, edge)
	measure("edge, form", &round.FormEdge, r, r.client, formEdge)
	measure("bare handler", &round.Bare, r, r.simple, edge)
	if err == nil {
		err = r.rdb.Del(ctx, "bare").Err()
	}
	if r.store == nil || r.edgeRate > 0 {
		step("stages, draining", &round.Drain, func() (stretch, error) { return r.drain(ctx) })
	} else if err == nil {
		r.say("the backlog is dropped: draining it into standalone's store would take too long")
		r.client.forget()
		err = errors.Join(r.rdb.FlushAll(ctx).Err(), r.startStages(ctx))
	}
	measure(fmt.Sprintf("form at %d a second", lightly), &round.FormLight, r, r.client, light)
	measure(fmt.Sprintf("JSON at %d a second", lightly), &round.Light, r, r.client, lightJSON)
	measure(fmt.Sprintf("form, %d connections", few.connections), &round.FormFew, r, r.client, few)
	measure("form", &round.Form, r, r.client, full)
	measure("JSON", &round.Pipeline, r, r.client, asJSONs)
	if err == nil {
		round.IdleTrips, err = r.idle(ctx)
	}
	if err = errors.Join(err, r.stopStages()); err == nil && r.mongoURL != "" {
		err = r.startPeer(ctx)
	}
	if r.peer != nil {
		p := r.peer
		measure("Watermill at 100 a second", &round.PeerLight, p, p.client, light)
		measure("Watermill, few connections", &round.PeerFew, p, p.client, few)
		measure("Watermill", &round.Peer, p, p.client, full)
		err = errors.Join(err, p.pause())
	}
	return round, err
}

// measure drives a client and returns what it cost.
func (r *rig) measure(ctx context.Context, c *client, d drive) (stretch, error) {
	var readings []reading
	pids := r.pids()
	d.edge = func() error {
		now, err := read(ctx, pids, r.rdb)
		readings = append(readings, now)
		return err
	}
	got, err := c.run(ctx, d)
	if err != nil {
		return stretch{}, err
	}
	if len(c.status) > 1 || c.status[http.StatusCreated] == 0 {
		return stretch{}, fmt.Errorf("answers other than 201, by status: %v; 503 is a full Redis or backlog", c.status)
	}
	s := stretch{Seconds: got.seconds, Events: got.accepted, Post: timesOf(got.posts)}
	if d.outstanding > 0 {
		s.Events, s.Line, s.MostUnderWay = got.written, timesOf(got.lines), c.peak
	}
	return s.costing(readings[0], readings[1])
}

// drain starts the stages and measures how they work off what the edge left, their start included.
func (r *rig) drain(ctx context.Context) (s stretch, err error) {
	begun := r.client.written
	from, err := read(ctx, r.pids(), r.rdb)
	if err != nil {
		return s, err
	}
	if err := r.startStages(ctx); err != nil {
		return s, err
	}
	if err := r.client.settled(ctx); err != nil {
		return s, err
	}
	to, err := read(ctx, r.pids(), r.rdb)
	if err != nil {
		return s, err
	}
	s.Events, s.Seconds = r.client.written-begun, to.at.Sub(from.at).Seconds()
	return s.costing(from, to)
}

// idle is how many round trips a second the pipeline makes to Redis while nobody submits.
func (r *rig) idle(ctx context.Context) (trips float64, err error) {
	from, err := read(ctx, nil, r.rdb)
	if err != nil {
		return 0, err
	}
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(r.edge):
	}
	to, err := read(ctx, nil, r.rdb)
	return (to.reads - from.reads - 1) / to.at.Sub(from.at).Seconds(), err // one was ours
}
