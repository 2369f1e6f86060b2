package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/milepost/milepost/pkg/stage/internal/link"
	"github.com/milepost/milepost/pkg/stage/internal/script"
)

// Submission is one event to publish at the edge of the pipeline.
type Submission struct {
	ID          string    // event ID; "" makes a UUIDv7; not beside Key
	Body        any       // encoded as codec.go says
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

// Limit allows Max submissions in Per for all that share Name, across processes: at once, or evenly
// as Per goes by (the generic cell rate algorithm, ITU-T I.371).
type Limit struct {
	Name string
	Max  int
	Per  time.Duration
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

	mu     sync.Mutex
	wake   sync.Cond
	list   []publishing
	closed bool
	ended  chan struct{}
}

type publishing struct {
	s       Submission
	payload []byte
	answer  chan published // buffered: the caller may have left
}

type published struct {
	Receipt
	err error
}

// Publisher makes a publisher for channel. Its first publish registers it under name, for status.
// Close it to stop it.
func (b *Broker) Publisher(name, channel string) *Publisher {
	p := &Publisher{b: b, name: name, channel: channel, ended: make(chan struct{})}
	p.wake.L = &p.mu
	b.require(p.needs()...)
	go p.loop()
	return p
}

// ErrClosed: the publisher was closed.
var ErrClosed = errors.New("the publisher is closed")

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
	switch {
	case s.Key != "" && s.ID != "":
		return Receipt{}, errors.New("the event ID of a submission with a key is computed; leave out one of them")
	case s.Key != "":
		if s.ID, err = p.b.keyed(ctx, &s); err != nil {
			return Receipt{}, err
		}
	case s.ID == "":
		s.ID = newID()
	}
	if s.At.IsZero() {
		s.At = time.Now()
	}
	if p.b.tracer != nil {
		span := p.span(ctx, &s)
		defer func() { endSpan(span, err) }()
	}
	x := publishing{s: s, payload: payload, answer: make(chan published, 1)}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return Receipt{}, ErrClosed
	}
	p.list = append(p.list, x)
	p.mu.Unlock()
	p.wake.Signal()
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
	p.wake.Signal()
	<-p.ended
	return nil
}

func (p *Publisher) loop() {
	defer close(p.ended)
	ctx := context.Background() // each call has its own deadline, and Close waits for it
	for registered := false; ; {
		p.mu.Lock()
		for len(p.list) == 0 && !p.closed {
			p.wake.Wait()
		}
		n := fitting(p.list, settleMost, func(x *publishing) int { return len(x.payload) })
		batch := p.list[:n:n]
		if p.list = p.list[n:]; len(p.list) == 0 {
			p.list = nil
		}
		p.mu.Unlock()
		if n == 0 {
			return
		}
		if !registered && p.b.link.Ready(ctx) == nil {
			registered = p.register(ctx)
		}
		p.publish(ctx, batch)
	}
}

// register makes the publisher known to status. If it fails, the next publish tries again.
func (p *Publisher) register(ctx context.Context) bool {
	about, err := json.Marshal(registration{Out: []Output{{Channel: p.channel}}})
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return p.b.link.Check(ctx, p.b.link.Client.HSet(ctx, p.b.keys.Stages(), p.name, about).Err()) == nil
}

func (p *Publisher) publish(ctx context.Context, batch []publishing) {
	keys := []string{p.b.keys.Stream(p.channel)}
	args := make([]any, 0, 3+4*len(batch))
	args = append(args, p.b.opt.MaxBacklog, p.name, len(batch))
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
			keys = append(keys, p.b.keys.Idempotency(x.s.Key))
			key = len(keys)
		}
		args = append(args, "1", x.s.Traceparent, track, key, x.s.Digest, len(x.s.Limits))
		for _, l := range x.s.Limits {
			keys = append(keys, p.b.keys.Limit(l.Name))
			args = append(args, len(keys), l.Max, l.Per.Milliseconds())
		}
	}
	reply, few, err := p.run(ctx, keys, args)
	if err != nil {
		p.b.identity.doubt()
	}
	replies, _ := reply.([]any)
	for i, x := range batch {
		a := published{err: err}
		if err == nil {
			a = p.answer(ctx, x.s, replies[i])
		}
		if a.err == nil {
			a.err = few
		}
		x.answer <- a
	}
	p.b.metrics.published(p.channel, len(batch))
}

// run runs the script. few is the error of what it kept, and of repeats, if too few replicas have
// it.
func (p *Publisher) run(ctx context.Context, keys []string, args []any) (reply any, few, err error) {
	n := p.b.opt.WaitReplicas
	if n == 0 {
		reply, err = p.b.link.Run(ctx, script.Publish, keys, args...)
		return reply, nil, err
	}
	reply, copied, err := p.b.link.RunCopied(ctx, n, p.b.opt.WaitTimeout, script.Publish, keys, args...)
	if copied < n {
		few = fmt.Errorf("%w: %d of %d replicas had it within %s", ErrUnavailable, copied, n, p.b.opt.WaitTimeout)
	}
	return reply, few, err
}

// plain tells whether the submission has no options.
func (s *Submission) plain() bool {
	return !s.Track && s.Key == "" && s.Traceparent == "" && len(s.Limits) == 0
}

// answer reads the script's reply to one submission: 1 if it was kept, else JSON.
func (p *Publisher) answer(ctx context.Context, s Submission, reply any) published {
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
		return published{err: p.b.link.Check(ctx, link.Reply(r.Error))}
	}
}
