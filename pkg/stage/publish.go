package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/internal/link"
	"github.com/milepost/milepost/pkg/stage/internal/script"
)

// Submission is one event to publish at the edge of the pipeline.
type Submission struct {
	ID          string    // event ID; "" makes a UUIDv7; not beside Key
	Body        any       // published as JSON; a string or []byte as the bare bytes
	At          time.Time // zero means now
	Track       bool      // record its progress for an hour
	Traceparent string    // W3C trace context that it belongs to; "" means that of Publish's ctx

	// Key is an idempotency key, "" for none. A second submission with it within 24 h publishes
	// nothing and gets the first one's ID; with another Digest it gets ErrKeyReused. The event
	// ID is computed from Key and Digest, so that a later one, or one after a failover of Redis
	// that lost the key, is the same event.
	Key    string
	Digest string    // of the body, to tell a repeat from a reuse
	KeyAt  time.Time // when Key was made, if Key itself says it; zero if not
	Limits []Limit   // checked after Key, counted only if kept
}

// Receipt is the answer to a publish.
type Receipt struct {
	ID     string // event ID: the submission's own, or the first one's under the same key
	Repeat bool   // the key was known; nothing was published
}

// Publisher publishes on one channel. Concurrent calls share round trips: while one script is under
// way, the submissions for the next one gather.
type Publisher struct {
	b             *Broker
	name, channel string

	mu      sync.Mutex
	outlets atomic.Pointer[[]*outlet] // one for each shard; nil until Redis has said how many
	dealer  *dealer                   // of several shards
	closed  bool
}

// outlet publishes on one shard.
type outlet struct {
	*shard
	*gathering[publishing]
	p     *Publisher
	ended chan struct{}
	away  atomic.Int64 // Unix nanoseconds of the last failure; 0 if a script succeeded since
}

type publishing struct {
	s       Submission
	payload []byte
	answer  chan published // buffered: the caller may have left
	done    chan struct{}  // if not nil, closed with the answer
}

func (x *publishing) size() int { return len(x.payload) }

type published struct {
	Receipt
	err error
}

// Publisher makes a publisher for channel. Its first publish registers it under name, for status,
// unless it is a tool's (Options.Shards -1). Close it to stop it.
func (b *Broker) Publisher(name, channel string) *Publisher {
	p := &Publisher{b: b, name: name, channel: channel}
	b.outs.add(channel)
	b.require(p.needs)
	return p
}

// open returns the outlets, and makes them with the first call that Redis answers. Errors:
// [ErrUnavailable], [ErrCluster], [ErrClosed].
func (p *Publisher) open(ctx context.Context) ([]*outlet, error) {
	if o := p.outlets.Load(); o != nil {
		return *o, nil
	}
	shards, err := p.b.shards(ctx)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if o := p.outlets.Load(); o != nil {
		return *o, nil
	}
	if p.closed {
		return nil, ErrClosed
	}
	outlets := make([]*outlet, len(shards))
	for i, s := range shards {
		outlets[i] = &outlet{shard: s, gathering: gather(scriptMost, 1, (*publishing).size), p: p, ended: make(chan struct{})}
		go outlets[i].loop()
	}
	if len(outlets) > 1 {
		p.dealer = newDealer(outlets)
	}
	p.outlets.Store(&outlets)
	return outlets, nil
}

// Publish adds s to the channel's stream and publishes it. It returns once Redis has answered, and
// Options.WaitReplicas replicas have it.
// Errors: [ErrBacklog], [ErrKeyReused], [*LimitError], [ErrUnavailable], [ErrRefused], [ErrClosed],
// a codec error, ctx's error. After ErrUnavailable or ctx's error the event may or may not have
// been kept.
func (p *Publisher) Publish(ctx context.Context, s Submission) (_ Receipt, err error) {
	payload, err := encode(s.Body)
	if err != nil {
		return Receipt{}, err
	}
	outlets, err := p.open(ctx)
	if err != nil {
		return Receipt{}, err
	}
	deal := false
	switch {
	case s.Key != "" && s.ID != "":
		return Receipt{}, errors.New("the event ID of a submission with a key is computed; leave out one of them")
	case s.Key != "":
		if s.ID, err = p.b.keyed(ctx, &s, len(outlets)); err != nil {
			return Receipt{}, err
		}
	case s.ID == "":
		s.ID = newID()
		deal = len(outlets) > 1 && p.b.tracer == nil // a span begins with the ID
	}
	if s.At.IsZero() {
		s.At = time.Now()
	}
	if p.b.tracer != nil {
		span := p.span(ctx, &s)
		defer func() { endSpan(span, err) }()
	}
	x := publishing{s: s, payload: payload, answer: make(chan published, 1)}
	if len(outlets) > 1 {
		if err = p.admit(ctx, outlets, &x.s); err != nil {
			return Receipt{}, err
		}
	}
	to := outlets[ShardOf(s.ID, len(outlets))].gathering
	if deal {
		to = p.dealer.gathering
	}
	if !to.add(x) {
		return Receipt{}, ErrClosed
	}
	select {
	case a := <-x.answer:
		return a.Receipt, a.err
	case <-ctx.Done():
		return Receipt{}, ctx.Err()
	}
}

// Close publishes what has gathered, and then stops.
func (p *Publisher) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	if p.dealer != nil {
		p.dealer.close()
		<-p.dealer.ended
	}
	outlets := p.outlets.Load()
	if outlets == nil {
		return nil
	}
	for _, o := range *outlets {
		o.close()
	}
	for _, o := range *outlets {
		<-o.ended
	}
	return nil
}

func (o *outlet) loop() {
	defer close(o.ended)
	ctx := context.Background()                 // each call has its own deadline, and Close waits for it
	for registered := o.p.b.opt.Shards < 0; ; { // a tool is no part of the pipeline
		batch := o.take()
		if len(batch) == 0 {
			return
		}
		if !registered && o.link.Ready(ctx) == nil {
			registered = o.register(ctx)
		}
		o.publish(ctx, batch)
		o.done(batch)
	}
}

// register makes the publisher known to status. If it fails, the next publish tries again.
func (o *outlet) register(ctx context.Context) bool {
	about, err := json.Marshal(registration{Out: []Output{{Channel: o.p.channel}}})
	if err != nil {
		return false
	}
	ctx, cancel := link.Within(ctx, callTimeout)
	defer cancel()
	return o.link.Check(ctx, o.link.Client().HSet(ctx, o.keys.Stages(), o.p.name, about).Err()) == nil
}

func (o *outlet) publish(ctx context.Context, batch []publishing) {
	names := []string{o.keys.Stream(o.p.channel)}
	args := make([]any, 0, 4+4*len(batch))
	unseen := o.unseen()
	args = append(args, o.maxBacklog, o.p.name, unseen, len(batch))
	for _, x := range batch {
		args = append(args, x.s.ID, x.payload, strconv.FormatInt(x.s.At.UnixMilli(), 10))
		if x.s.plain() {
			args = append(args, "")
			continue
		}
		track, key := "", 0
		if x.s.Track {
			track = "1"
		}
		if x.s.Key != "" {
			name, field := x.s.keptAs(o.keys)
			names = append(names, name)
			if key = len(names); field != "" {
				key = -key
			}
		}
		args = append(args, "1", x.s.Traceparent, track, key, x.s.Digest, len(x.s.Limits))
		for _, l := range x.s.Limits {
			names = append(names, o.keys.Limit(l.Name))
			args = append(args, len(names), l.Max, l.Per.Milliseconds())
		}
	}
	reply, few, err := o.run(ctx, names, args)
	o.failed(err)
	replies, _ := reply.([]any)
	if err == nil && unseen == "" && replies[len(batch)] == int64(1) {
		o.sawNoReplica()
	}
	for i, x := range batch {
		a := published{err: err}
		if err == nil {
			a = o.answer(ctx, x.s, replies[i])
		}
		if a.err == nil {
			a.err = few
		}
		x.answer <- a
		if x.done != nil {
			close(x.done)
		}
	}
	o.p.b.metrics.published(o.p.channel, len(batch))
}

// run runs the script. few is the error of what it kept, and of repeats, if too few replicas have
// it.
func (o *outlet) run(ctx context.Context, names []string, args []any) (reply any, few, err error) {
	n, copied := o.p.b.opt.WaitReplicas, 0
	for old := o.link.Client(); ; {
		if n == 0 {
			reply, err = o.link.Run(ctx, script.Publish, names, args...)
		} else {
			reply, copied, err = o.link.RunCopied(ctx, n, o.p.b.opt.WaitTimeout, script.Publish, names, args...)
		}
		if !link.Moved(err) || !o.awaitMove(&old) {
			break
		}
	}
	if copied < n {
		few = fmt.Errorf("%w: %d of %d replicas had it within %s", ErrUnavailable, copied, n, o.p.b.opt.WaitTimeout)
	}
	return reply, few, err
}

// awaitMove waits a moment for another master than old, which said that the shard has moved.
func (o *outlet) awaitMove(old **redis.Client) bool {
	for end := time.Now().Add(3 * loadEvery); time.Now().Before(end); time.Sleep(loadEvery / 10) {
		if now := o.link.Client(); now != *old {
			*old = now
			return true
		}
	}
	return false
}

// failed notes whether Redis was away.
func (o *outlet) failed(err error) {
	if err == nil {
		o.away.Store(0)
		return
	}
	o.away.Store(time.Now().UnixNano())
	if o.cluster == nil {
		o.p.b.identity.doubt() // in a cluster, the key pipeline may be on a master that is well
	}
}

// plain tells whether the submission has no options.
func (s *Submission) plain() bool {
	return !s.Track && s.Key == "" && s.Traceparent == "" && len(s.Limits) == 0
}

// answer reads the script's reply to one submission: 1 if it was kept, else JSON.
func (o *outlet) answer(ctx context.Context, s Submission, reply any) published {
	text, refused := reply.(string)
	if !refused {
		return published{Receipt: Receipt{ID: s.ID}}
	}
	var r struct {
		RepeatOf     string `json:"repeat_of"`
		Reused, Full bool
		Limit, Wait  int
		Error        string
	}
	err := json.Unmarshal([]byte(text), &r)
	switch {
	case err != nil:
		return published{err: fmt.Errorf("reply of the publish script: %w", err)}
	case r.RepeatOf != "":
		return published{Receipt: Receipt{ID: r.RepeatOf, Repeat: true}}
	case r.Reused:
		return published{err: ErrKeyReused}
	case r.Full:
		return published{err: ErrBacklog}
	case r.Limit > 0:
		return published{err: &LimitError{Limit: s.Limits[r.Limit-1], Retry: time.Duration(r.Wait) * time.Millisecond}}
	default:
		return published{err: o.link.Check(ctx, link.Reply(r.Error))}
	}
}
