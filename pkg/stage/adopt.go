package stage

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/internal/link"
	"github.com/milepost/milepost/pkg/stage/internal/script"
)

const (
	adoptMost     = 128             // messages in one script call
	adoptBytes    = 64 << 20        // messages that wait for Redis, in memory
	leaveAdoption = 3 * time.Second // how long a leaving adopter waits for its successor
)

// ownership decides by message order alone which messages a subscriber adopts: those after its own marker and before the
// next foreign one that no kept number announced.
type ownership struct {
	token string
	mine  bool
	skip  int // messages still to come that are in the stream already
	odd   int // kept numbers that came while messages were still to be skipped
}

// announced takes a message of <channel>:kept and tells whether someone else owns the channel from here on.
func (o *ownership) announced(payload string) (foreign bool) {
	if token, ok := strings.CutPrefix(payload, "owner:"); ok {
		o.mine = token == o.token
		return !o.mine
	}
	if n, err := strconv.Atoi(payload); err == nil && n >= 0 {
		if o.skip > 0 {
			o.odd++
		}
		o.skip = n
	}
	return false
}

// published takes a message of the channel and tells whether it is to be adopted.
func (o *ownership) published() bool {
	if o.skip > 0 {
		o.skip--
		return false
	}
	return o.mine
}

// adoptLoop is a candidate until ctx ends: whenever nobody adopts, it tries to, and adopts until someone else does.
func (s *Stage) adoptLoop(ctx, live context.Context) {
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

// adopt subscribes, takes the lease, and adopts until someone else owns the channel, the subscription breaks, or ctx ends
// and a successor has been waited for.
func (s *Stage) adopt(ctx, live context.Context) error {
	to := []string{s.b.keys.Live(s.cfg.In), s.b.keys.Kept(s.cfg.In), s.b.keys.Adopters(s.cfg.In)}
	sub := s.b.link.Client.Subscribe(live, to...)
	defer sub.Close()
	for range to {
		r, err := sub.ReceiveTimeout(live, callTimeout)
		if err != nil {
			return err
		}
		if _, ok := r.(*redis.Subscription); !ok {
			return fmt.Errorf("redis answered %T to SUBSCRIBE", r)
		}
	}
	o := ownership{token: uuid.NewString()}
	s.token.Store(o.token)
	defer s.token.Store("")
	own := func(ctx context.Context, lease time.Duration) (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		r, err := s.b.link.Run(ctx, script.Own, []string{s.b.keys.Adopter(s.cfg.In), s.b.keys.Stream(s.cfg.In)}, o.token, lease.Milliseconds(), s.b.keys.Kept(s.cfg.In))
		if err != nil {
			return false, err
		}
		s.known.Store(int64(link.Int(r[1]))) // the last tick may be older than a successor
		return link.Int(r[0]) == 1, nil
	}
	if got, err := own(ctx, s.b.opt.Lease); err != nil || !got {
		return err
	}
	w := newAdoptions(s)
	written := make(chan struct{})
	go func() { w.writeLoop(live); close(written) }()
	defer func() { w.close(); <-written }()

	received := make(chan struct{})
	defer close(received)
	var seen lastSeen
	seen.now()
	leaving := context.AfterFunc(ctx, func() {
		defer sub.Close()
		_, _ = own(live, 0)
		for end := time.Now().Add(leaveAdoption); s.successor() && time.Now().Before(end); {
			select {
			case <-received: // the successor's marker, or a broken subscription
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	defer leaving()
	defer s.b.pinger(live, sub, &seen)()
	retake := func() { _, _ = own(ctx, s.b.opt.Lease) } // the lease ran out and nobody took it: the same subscription may

	s.log.Info("adopting bare publishes", "channel", s.cfg.In)
	for {
		r, err := sub.Receive(live)
		if err != nil {
			if ctx.Err() != nil || live.Err() != nil {
				return nil
			}
			return err
		}
		seen.now()
		select {
		case <-s.free:
			if ctx.Err() == nil {
				go retake()
			}
		default:
		}
		switch m := r.(type) {
		case *redis.Subscription:
			return fmt.Errorf("the subscription was renewed by itself")
		case *redis.Message:
			if m.Channel != to[0] {
				odd := o.odd
				if o.announced(m.Payload) {
					s.log.Info("someone else adopts", "channel", s.cfg.In)
					return nil
				}
				if o.odd > odd {
					s.m.odd.Inc()
				}
				continue
			}
			if o.published() {
				w.add(m.Payload)
			}
		}
	}
}

// successor tells whether someone may take over the adoption: a stage of this broker that stays, or one elsewhere.
func (s *Stage) successor() bool {
	running, staying := s.b.mine.on(s.cfg.In)
	return staying > 0 || s.known.Load() > int64(running)
}

// adoptions are messages on their way into the stream. Their event IDs are made before the first attempt and kept for the
// next ones, so that a lost reply doubles an entry at worst, never an event.
type adoptions struct {
	s      *Stage
	mu     sync.Mutex
	wake   sync.Cond
	list   [][3]string // event ID, payload, traceparent
	bytes  int
	closed bool
}

func newAdoptions(s *Stage) *adoptions {
	a := &adoptions{s: s}
	a.wake.L = &a.mu
	return a
}

// add never waits: what Redis sends must be taken, or it ends the subscription. Over adoptBytes a message is dropped and
// counted.
func (a *adoptions) add(payload string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.bytes+len(payload) > adoptBytes {
		a.s.m.dropped.Inc()
		a.s.log.Error("a bare publish was dropped: too many wait for redis", "channel", a.s.cfg.In)
		return
	}
	id := adoptedID(payload)
	a.list = append(a.list, [3]string{id, payload, a.s.adopted(id)})
	a.bytes += len(payload)
	a.wake.Signal()
}

func (a *adoptions) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.wake.Signal()
}

// writeLoop adds to the stream until closed and empty, or ctx ends.
func (a *adoptions) writeLoop(ctx context.Context) {
	for {
		a.mu.Lock()
		for len(a.list) == 0 && !a.closed {
			a.wake.Wait()
		}
		n := min(adoptMost, len(a.list))
		batch := a.list[:n:n]
		a.mu.Unlock()
		if n == 0 {
			return
		}
		args, size := []any{n}, 0
		for _, m := range batch {
			args = append(args, m[0], m[1], m[2])
			size += len(m[1])
		}
		var wait backoff
		for {
			call, cancel := context.WithTimeout(ctx, callTimeout)
			_, err := a.s.b.link.Run(call, script.Adopt, []string{a.s.b.keys.Stream(a.s.cfg.In)}, args...)
			cancel()
			if err == nil {
				break
			}
			if !wait.wait(ctx) {
				a.s.m.dropped.Add(float64(n))
				a.s.log.Error("bare publishes were dropped: redis is away and this process ends", "channel", a.s.cfg.In, "messages", n)
				return
			}
		}
		a.s.m.adopted.Add(float64(n))
		a.mu.Lock()
		if a.list = a.list[n:]; len(a.list) == 0 {
			a.list = nil
		}
		a.bytes -= size
		a.mu.Unlock()
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
