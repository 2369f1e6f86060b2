package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
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
// The subscription is never held up: messages wait in memory and another goroutine adds them to the
// stream, in numbered batches: if the reply to one is lost, it is sent again and not added again. A
// message of more than entryMost bytes becomes a dead letter with its begin and its size. While
// nobody adopts, a bare PUBLISH is delivered at most once, as Redis promises.

const (
	adoptMost     = 128             // messages in one script call
	keptMost      = 1 << 16         // messages that one script may announce
	adoptBytes    = 64 << 20        // bytes of messages that wait in memory
	leaveAdoption = 3 * time.Second // how long a leaving adopter waits for its successor
)

// ownership is one subscriber's view: it decides by message order which messages it adopts.
type ownership struct {
	token string
	mine  bool
	skip  int // messages still to come that are in the stream already
	pongs int // since the last number
	odd   int // numbers that were not true
}

// kept takes a message of <channel>:kept and tells whether another subscriber owns the channel from
// here on.
func (o *ownership) kept(payload string) (foreign bool) {
	if token, ok := strings.CutPrefix(payload, "owner:"); ok {
		o.mine = token == o.token
		return !o.mine
	}
	if n, err := strconv.Atoi(payload); err == nil && n >= 0 {
		if o.skip > 0 || n > keptMost {
			o.odd++
		}
		if n <= keptMost {
			o.skip, o.pongs = n, 0
		}
	}
	return false
}

// pong takes the reply to a PING.
func (o *ownership) pong() {
	if o.pongs++; o.pongs >= 2 && o.skip > 0 {
		o.skip = 0
		o.odd++
	}
}

// adopts takes a message of the channel and tells whether it is to be adopted.
func (o *ownership) adopts() bool {
	if o.skip > 0 {
		o.skip--
		return false
	}
	return o.mine
}

// adoptLoop is a candidate until ctx ends: whenever nobody adopts, it tries to, and adopts until
// another stage does.
func (s *lane) adoptLoop(ctx, live context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.free:
			if err := s.adopt(ctx, live); err != nil && ctx.Err() == nil {
				s.log.Warn("adoption interrupted", "channel", s.cfg.In, "err", err)
			}
		}
	}
}

// adoption is one subscription of an adopter.
type adoption struct {
	s     *lane
	sub   *redis.PubSub
	batch int // number of the last batch that was written
	order ownership
	heard lastHeard
	inbox inbox
}

// adopt subscribes, takes the lease and adopts until another subscriber owns the channel, the
// subscription breaks, or ctx has ended and a successor has been waited for.
func (s *lane) adopt(ctx, live context.Context) error {
	a := &adoption{s: s, order: ownership{token: uuid.NewString()}}
	a.inbox.wake.L = &a.inbox.mu
	if err := a.subscribe(live); err != nil {
		return err
	}
	defer a.sub.Close()
	s.token.Store(a.order.token)
	defer s.token.Store("")
	if got, err := a.lease(ctx, s.b.opt.Lease); err != nil || !got {
		return err
	}
	s.log.Info("adopting bare publishes", "channel", s.cfg.In)
	helping, stop := context.WithCancel(live)
	var helpers sync.WaitGroup
	helpers.Go(func() { s.b.guard(helping, a.sub, &a.heard) })
	helpers.Go(func() { a.keepLease(ctx, helping) })
	helpers.Go(func() { a.write(live) })
	err := a.receive(live)
	stop()
	a.inbox.close()
	helpers.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// subscribe subscribes to the channel, its announcements, and the channel that tells how many
// adopters there are.
func (a *adoption) subscribe(live context.Context) error {
	in, k := a.s.cfg.In, a.s.keys
	to := []string{k.Live(in), k.Kept(in), k.Adopters(in)}
	a.sub = a.s.link.Client().Subscribe(live, to...)
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
	in, k := a.s.cfg.In, a.s.keys
	var r struct {
		Owned     bool
		Consumers int64
	}
	err := a.s.link.RunJSON(ctx, &r, script.Own, []string{k.Adopter(in), k.Stream(in)},
		a.order.token, d.Milliseconds(), k.Kept(in))
	if err == nil {
		a.s.known.Store(r.Consumers) // the last tick may be older than a successor
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
		case <-a.s.free:
			_, _ = a.lease(ctx, a.s.b.opt.Lease)
		}
	}
	_, _ = a.lease(helping, 0)
	wait, stop := context.WithTimeout(helping, leaveAdoption)
	defer stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for wait.Err() == nil && a.s.successor() {
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
			if m.Channel != a.s.keys.Live(a.s.cfg.In) {
				if a.order.kept(m.Payload) {
					a.s.log.Info("another stage adopts now", "channel", a.s.cfg.In)
					return nil
				}
			} else if a.order.adopts() {
				a.add(m.Payload)
			}
		}
		a.s.m.odd.Add(float64(a.order.odd - odd))
	}
}

// successor tells whether a stage may take over the adoption: one of this broker that stays, or one
// elsewhere.
func (s *lane) successor() bool {
	running, staying := s.b.crew.on(s.cfg.In)
	return staying > 0 || s.known.Load() > int64(running)
}

// inbox holds messages on their way into the stream.
type inbox struct {
	mu     sync.Mutex
	wake   sync.Cond
	list   []adopted
	bytes  int
	closed bool
}

type adopted struct {
	id, payload, traceparent string
	size                     int // of the payload, if it is too large and only its begin is here; else 0
}

func (b *inbox) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.wake.Signal()
}

// next waits for messages and returns them without removing them; none when the inbox is closed and
// empty.
func (b *inbox) next() []adopted {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.list) == 0 && !b.closed {
		b.wake.Wait()
	}
	n := fitting(b.list, adoptMost, func(m *adopted) int { return len(m.payload) })
	return b.list[:n:n]
}

// remove removes the first messages, which next returned.
func (b *inbox) remove(batch []adopted) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range batch {
		b.bytes -= len(m.payload)
	}
	if b.list = b.list[len(batch):]; len(b.list) == 0 {
		b.list = nil
	}
}

// add never waits: Redis ends a subscription whose messages are not taken. Over adoptBytes a
// message is dropped and counted.
func (a *adoption) add(payload string) {
	m := adopted{payload: payload}
	if n := len(payload); n > entryMost {
		m.id, m.payload, m.size = newID(), strings.Clone(payload[:entryMost]), n
	} else {
		m.id = adoptedID(payload)
	}
	b := &a.inbox
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes+len(m.payload) > adoptBytes {
		a.s.m.dropped.Inc()
		a.s.log.Error("a bare publish was dropped: too many wait for redis", "channel", a.s.cfg.In)
		return
	}
	m.traceparent = a.s.adopted(m.id)
	b.list = append(b.list, m)
	b.bytes += len(m.payload)
	b.wake.Signal()
}

// write adds messages to the stream until the inbox is closed and empty, or ctx ends.
func (a *adoption) write(ctx context.Context) {
	for {
		batch := a.inbox.next()
		if len(batch) == 0 {
			return
		}
		a.batch++
		args, large := []any{a.batch, a.s.cfg.Name, a.s.maxDead, len(batch)}, 0
		for _, m := range batch {
			size := ""
			if m.size > 0 {
				size = strconv.Itoa(m.size)
				large++
				a.s.log.Error("a bare publish was set aside: it is too large", "channel", a.s.cfg.In, "event", m.id, "bytes", m.size)
			}
			args = append(args, m.id, m.payload, m.traceparent, size)
		}
		if !a.writeBatch(ctx, args) {
			a.s.m.dropped.Add(float64(len(batch)))
			a.s.log.Error("bare publishes were dropped: redis is away and this process ends", "channel", a.s.cfg.In, "messages", len(batch))
			return
		}
		a.s.m.adopted.Add(float64(len(batch) - large))
		a.s.m.deadN.Add(float64(large))
		a.inbox.remove(batch)
	}
}

// writeBatch runs the script until Redis has answered. False when ctx ended first.
func (a *adoption) writeBatch(ctx context.Context, args []any) bool {
	in, k := a.s.cfg.In, a.s.keys
	var wait backoff
	for {
		_, err := a.s.link.Run(ctx, script.Adopt, []string{k.Stream(in), k.Adopted(in, a.order.token)}, args...)
		if err == nil {
			if a.s.gate.open(noRoom, "") {
				a.s.log.Info("adopting again", "channel", a.s.cfg.In)
			}
			return true
		}
		if errors.Is(err, ErrRefused) && a.s.gate.shut(noRoom, "", err) {
			a.s.log.Warn("bare publishes wait", "channel", a.s.cfg.In, "err", err)
		}
		if !wait.wait(ctx) {
			return false
		}
	}
}

// adoptedID is the payload's own "id" if that is a UUID, else a new one.
func adoptedID(payload string) string {
	if strings.HasPrefix(strings.TrimSpace(payload), "{") {
		var p struct {
			ID string `json:"id"`
		}
		if json.Unmarshal([]byte(payload), &p) == nil {
			if id, err := uuid.Parse(p.ID); err == nil {
				return id.String()
			}
		}
	}
	return newID()
}

// newID makes an event ID, a UUIDv7.
func newID() string {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.NewString()
	}
	return id.String()
}
