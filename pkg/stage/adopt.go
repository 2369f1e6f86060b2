package stage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/internal/script"
)

// Adoption puts messages of foreign programs, which only PUBLISH, into the channel's stream. Each
// channel has one adopter at a time, however many stages and replicas read it. It must adopt each
// bare message, once, and none that a Publisher or a stage has put into the stream already. A
// subscriber cannot tell them apart by their content.
//
// Which messages are in the stream. A script that adds entries first publishes their number on
// <channel>:kept, then the messages on <channel>. Redis runs a script without interruption and
// sends a subscriber all messages in the order in which they were published. So a subscriber of
// both channels skips as many messages as announced: none comes in between.
//
// Who adopts. A time-limited lease alone does not settle that: while the old adopter still reads
// messages from its socket, the new one adopts already. So the order of messages settles it:
//
//  1. A candidate subscribes to both channels and waits until Redis confirms it.
//  2. One script takes the lease, <channel>:adopter, with a token made for this subscription, and
//     publishes the marker "owner:<token>" on <channel>:kept.
//  3. A subscriber adopts the messages after its own marker and before the next foreign one. All
//     subscribers see the markers at the same place among the messages, so each message has one
//     adopter, however late it is read.
//
// The tick of every stage looks whether the lease is there; if it is not, the stage is a candidate.
// An adopter whose lease ran out takes it again on the same subscription. An adopter that stops
// gives up the lease and reads on until its successor's marker, for leaveAdoption at most. When the
// subscription breaks, token and count are void.
//
// What cannot be true. Anybody may publish on <channel>:kept. A number over keptMost is ignored.
// One that comes while messages are still to be skipped starts the count anew. The messages of a
// script come before the reply to a later PING, so after two replies (the embedded Redis may mix up
// one) nothing is left to skip. All three are counted as odd.
//
// A Redis Cluster has no order between the messages of two nodes; feed.go says what differs there.
//
// The subscription is never held up: messages wait in memory and another goroutine adds them to the
// stream, in numbered batches: if the reply to one is lost, it is sent again and not added again. A
// message of more than entryMost bytes becomes a dead letter with its begin and its size. While
// nobody adopts, a bare PUBLISH is delivered at most once, as Redis promises.

// leaveAdoption is how long a leaving adopter waits for its successor.
const leaveAdoption = 3 * time.Second

// adoptLoop is a candidate until ctx ends: whenever nobody adopts, it tries to, and adopts until
// another stage does.
func (f *feed) adoptLoop(ctx, live context.Context) {
	defer f.writers.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.free:
			err := f.adopt(ctx, live)
			if err != nil && strings.Contains(err.Error(), "unknown command") { // SSUBSCRIBE, before Redis 7
				return
			}
			if err != nil && ctx.Err() == nil {
				f.lane.log.Warn("adoption interrupted", "channel", f.lane.cfg.In, "of", f.what, "err", err)
			}
		}
	}
}

// adoption is one subscription of an adopter.
type adoption struct {
	*feed
	sub   *redis.PubSub
	order ownership
	owns  atomic.Bool // as order.mine
	heard lastHeard
	inbox []*inbox // one for each shard

	// In a cluster.
	at    *node   // where it subscribed
	nodes []*node // that may publish
}

// adopt subscribes, takes the lease and adopts until another subscriber owns the channel, the
// subscription breaks, or ctx has ended and a successor has been waited for.
func (f *feed) adopt(ctx, live context.Context) error {
	a := &adoption{feed: f, order: ownership{token: uuid.NewString()}}
	if err := a.subscribe(live); err != nil {
		return f.link.Check(ctx, err)
	}
	defer a.sub.Close()
	f.token.Store(a.order.token)
	defer f.token.Store("")
	if got, err := a.lease(ctx, f.lasts); err != nil || !got {
		return err
	}
	if err := a.announce(ctx); err != nil {
		a.giveUp(ctx)
		return f.link.Check(ctx, err)
	}
	helping, stop := context.WithCancel(live)
	var helpers sync.WaitGroup
	helpers.Go(func() { f.lane.b.guard(helping, a.sub, &a.heard, f.pings) })
	helpers.Go(func() { a.keepLease(ctx, helping) })
	if a.nodes != nil {
		helpers.Go(func() { a.watch(helping) })
	}
	for _, s := range f.lane.b.all() {
		b := &inbox{shard: s, gathering: gather(adoptMost, 1, (*adopted).bytes)}
		a.inbox = append(a.inbox, b)
		f.writers.Go(func() { a.write(live, b) })
	}
	err := a.receive(live)
	stop()
	for _, b := range a.inbox {
		b.close()
	}
	helpers.Wait()
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		a.giveUp(ctx)
	}
	return err
}

// giveUp gives up the lease after an error, so that the next adoption, which needs another token,
// need not wait for its end.
func (a *adoption) giveUp(ctx context.Context) {
	var wait backoff
	for range 3 {
		if _, err := a.lease(ctx, 0); err == nil {
			a.lane.later(ctx, tickAgain, a.offer)
			return
		}
		wait.wait(ctx)
	}
}

// subscribe subscribes to the channel, its announcements, and the channel that tells how many
// adopters there are.
func (a *adoption) subscribe(live context.Context) error {
	to := a.send(live)
	for range to {
		r, err := a.sub.ReceiveTimeout(live, callTimeout)
		if _, ok := r.(*redis.Subscription); err == nil && !ok {
			err = fmt.Errorf("redis answered %T to SUBSCRIBE", r)
		}
		if err != nil {
			_ = a.sub.Close()
			return err
		}
	}
	a.heard.now()
	return nil
}

// lease takes the lease for that time, or gives it up with 0. It tells whether no other stage has
// it.
func (a *adoption) lease(ctx context.Context, d time.Duration) (bool, error) {
	var r struct {
		Owned     bool
		Consumers *int64
	}
	err := a.link.RunJSON(ctx, &r, script.Lease, a.keys, a.order.token, d.Milliseconds(), a.marker, a.kept)
	if err == nil && r.Consumers != nil {
		a.lane.known.Store(*r.Consumers) // the last tick may be older than a successor
	}
	return r.Owned, err
}

// keepLease takes the lease again when it ran out and no other stage took it. When ctx ends it
// gives the lease up and waits for a successor, whose marker ends helping, and then closes the
// subscription.
func (a *adoption) keepLease(ctx, helping context.Context) {
	for ctx.Err() == nil {
		select {
		case <-helping.Done():
			return
		case <-ctx.Done():
		case <-a.free:
			_, _ = a.lease(ctx, a.lasts)
		}
	}
	_, _ = a.lease(helping, 0)
	wait, stop := context.WithTimeout(helping, leaveAdoption)
	defer stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for wait.Err() == nil && a.lane.successor() {
		select {
		case <-wait.Done():
		case <-again.C:
		}
	}
	_ = a.sub.Close()
}

var errRenewed = errors.New("the subscription was renewed by itself")

// receive takes messages until another subscriber's marker, which is no error, or until the
// subscription ends.
func (a *adoption) receive(live context.Context) error {
	for {
		r, err := a.sub.Receive(live)
		if err != nil {
			return err
		}
		a.heard.now()
		odd := a.order.odd
		switch m := r.(type) {
		case *redis.Subscription:
			return errRenewed // messages may have been missed
		case *redis.Pong:
			a.order.pong()
		case *redis.Message:
			if m.Channel != a.live {
				if a.order.kept(m.Payload) {
					a.lane.log.Info("another stage adopts now", "channel", a.lane.cfg.In, "of", a.what)
					return nil
				}
				if !a.owns.Swap(a.order.mine) && a.order.mine {
					a.lane.log.Info("adopting", "channel", a.lane.cfg.In, "of", a.what)
				}
			} else if a.order.adopts(m.Payload) {
				a.add(m.Payload)
			}
		}
		a.lane.m.odd.Add(float64(a.order.odd - odd))
	}
}

// successor tells whether a stage may take over the adoption: one of this broker that stays, or one
// elsewhere.
func (l *lane) successor() bool {
	running, staying := l.b.crew.on(l.cfg.In)
	return staying > 0 || l.known.Load() > int64(running)
}

// crew knows the stages that run on this broker, so that one that stops does not wait for a
// successor among those that stop with it.
type crew struct {
	mu   sync.Mutex
	runs map[*Stage]context.Context
}

// enter adds a stage whose Run has this context, until exit.
func (c *crew) enter(ctx context.Context, s *Stage) (exit func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.runs == nil {
		c.runs = map[*Stage]context.Context{}
	}
	c.runs[s] = ctx
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.runs, s)
	}
}

// on counts the stages that run on a channel, and those of them that were not told to stop.
func (c *crew) on(channel string) (running, staying int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s, ctx := range c.runs {
		if s.cfg.In == channel {
			running++
			if ctx.Err() == nil {
				staying++
			}
		}
	}
	return running, staying
}
