package stage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/internal/entry"
	"github.com/milepost/milepost/pkg/stage/internal/link"
	"github.com/milepost/milepost/pkg/stage/internal/script"
	"github.com/milepost/milepost/pkg/stage/killpoint"
)

// entryMost is how many bytes of a payload are adopted, and how many a dead letter keeps.
const entryMost = 64 << 10

type outcome byte

const (
	skip    outcome = '0' // ack only: the entry is for another group
	forward outcome = 'f' // ack, and forward the outputs if there are any
	retry   outcome = 'r' // ack, and add anew when the delay is over
	dead    outcome = 'd' // ack, and write a dead letter
)

// settlement is what becomes of one entry.
type settlement struct {
	d        *delivery
	kind     outcome
	to       int    // of the only message to forward: index of the output, from 1; 0 if none or several
	payload  []byte // of that message
	several  []outgoing
	progress []byte        // JSON to show in the event's progress
	delay    time.Duration // of a retry
	reason   string        // of a dead letter
}

type outgoing struct {
	to      int // index of the output, from 1
	payload []byte
}

// add adds a message to forward.
func (x *settlement) add(to int, payload []byte) {
	switch {
	case x.to == 0 && len(x.several) == 0:
		x.to, x.payload = to, payload
		return
	case x.to > 0:
		x.several = append(x.several, outgoing{x.to, x.payload})
		x.to, x.payload = 0, nil
	}
	x.several = append(x.several, outgoing{to, payload})
}

// size is the bytes of payloads that settling it sends.
func (x *settlement) size() int {
	n := len(x.payload)
	for _, m := range x.several {
		n += len(m.payload)
	}
	if x.kind == retry || x.kind == dead {
		n += len(x.d.Payload)
	}
	return n
}

// bytesArg is a command's argument that need not be copied to become one.
type bytesArg []byte

// MarshalBinary implements encoding.BinaryMarshaler.
func (b *bytesArg) MarshalBinary() ([]byte, error) { return *b, nil }

// settleAtOnce is how many scripts may be under way. The second one starts only when it is full, so
// that Redis has work while the first one's reply travels. What comes slower gathers meanwhile.
const settleAtOnce = 2

// settler settles over a connection of its own, since it must know the connection's era.
type settler struct {
	lane *lane
	keys []string
	args []any
	conn *redis.Conn // nil while there is none
	era  int
}

// settleLoop settles until everything is settled and no more will come, or ctx ends.
func (l *lane) settleLoop(ctx context.Context) {
	t := settler{lane: l, keys: []string{l.keys.Stream(l.cfg.In), l.keys.Groups(l.cfg.In), l.keys.Due(l.cfg.In)}}
	for _, o := range l.cfg.Out {
		t.keys = append(t.keys, l.keys.Stream(o.Channel))
	}
	defer t.hangUp()
	for {
		batch := l.out.take()
		if len(batch) == 0 {
			return
		}
		ok := t.settle(ctx, batch)
		l.out.done(batch)
		if !ok {
			return
		}
	}
}

// settle runs the script, which is safe to run twice, until Redis has answered. It returns false if
// ctx ended first.
func (t *settler) settle(ctx context.Context, batch []settlement) bool {
	var wait backoff
	for l := t.lane; ; {
		var err error
		batch, err = t.dial(ctx, batch)
		if err == nil && len(batch) == 0 {
			return true
		}
		var reply settleReply
		if err == nil {
			t.args = l.settleArgs(t.args[:0], batch)
			killpoint.Soon("stage.settle-sent")
			err = l.link.RunJSONVia(ctx, link.Over(t.conn), &reply, script.Settle, t.keys, t.args...)
		}
		if err == nil {
			killpoint.Pass("stage.after-settle")
			l.gate.open(settling, "")
			l.settled(ctx, batch, reply)
			return true
		}
		t.hangUp()
		if ctx.Err() != nil {
			return false
		}
		if !errors.Is(err, ErrUnavailable) && l.gate.shut(settling, "", err) {
			l.log.Error("cannot settle", "err", err)
		}
		if !wait.wait(ctx) {
			return false
		}
	}
}

// dial makes sure that there is a connection of the batch's era, and drops what is of an earlier
// one.
func (t *settler) dial(ctx context.Context, batch []settlement) (_ []settlement, err error) {
	older := func(x settlement) bool { return x.d.era < t.era }
	newer := func(x settlement) bool { return x.d.era > t.era }
	if slices.ContainsFunc(batch, newer) {
		t.hangUp()
	}
	if t.conn == nil {
		t.conn = t.lane.link.Client().Conn()
		if t.era, err = t.lane.eraOf(ctx, t.conn); err != nil {
			return batch, err
		}
		if slices.ContainsFunc(batch, newer) {
			return batch, fmt.Errorf("%w: an old master answered", ErrUnavailable)
		}
	}
	return slices.DeleteFunc(batch, older), nil
}

func (t *settler) hangUp() {
	if t.conn != nil {
		_ = t.conn.Close() // nothing is under way
		t.conn = nil
	}
}

// trackedTo are the outcomes of tracked events, by output.
var trackedTo = [...]any{"", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9"}

// settleArgs appends the script's arguments. Most are pointers into the batch, since a string or a
// slice in an interface is an allocation.
func (l *lane) settleArgs(args []any, batch []settlement) []any {
	args = append(args, l.cfg.Name, l.name, l.maxBacklog, l.maxDead, l.unseen(), len(l.cfg.Out))
	for _, o := range l.cfg.Out {
		if o.Unread {
			args = append(args, l.keepEntries)
		} else {
			args = append(args, 0)
		}
	}
	args = append(args, len(batch))
	for i := range batch {
		x := &batch[i]
		args = append(args, &x.d.EntryID)
		switch x.kind {
		case skip:
			args = append(args, "0")
			continue
		case retry:
			args = append(args, "r", x.delay.Milliseconds(), x.d.Fields(l.cfg.Name, x.d.Tries+1, x.d.failure))
			continue
		case dead:
			args = append(args, "d", x.reason, x.d.Fields(l.cfg.Name, x.d.Tries, x.d.failure))
			continue
		}
		if x.to > 0 && x.to <= 9 && x.d.Tracked && x.d.Traceparent == "" {
			args = append(args, trackedTo[x.to], &x.d.EventID, &x.d.At, (*bytesArg)(&x.payload), (*bytesArg)(&x.progress))
			continue
		}
		var more any // nil is the empty string
		if m := x.more(); m != nil {
			more = m
		}
		switch {
		case x.to == 0 && len(x.several) == 0 && more == nil:
			args = append(args, "0")
		case x.to > 0 && x.to <= 9 && more == nil:
			args = append(args, x.to, &x.d.EventID, &x.d.At, (*bytesArg)(&x.payload))
		case x.to > 0:
			args = append(args, "f", &x.d.EventID, &x.d.At, more, 1, x.to, (*bytesArg)(&x.payload))
		default:
			args = append(args, "f", &x.d.EventID, &x.d.At, more, len(x.several))
			for _, o := range x.several {
				args = append(args, o.to, o.payload)
			}
		}
	}
	return args
}

// more packs what few events have: a trace and progress.
func (x *settlement) more() []byte {
	if x.d.Traceparent == "" && !x.d.Tracked {
		return nil
	}
	track := ""
	if x.d.Tracked {
		track = "1"
	}
	return entry.Pack(nil, x.d.Traceparent, track, string(x.progress))
}

// settleReply is the script's reply, as its header says. Indices begin with 1.
type settleReply struct {
	Elsewhere, Restored, Full []int
	Problem                   string
	NoReplica                 bool `json:"no_replica"`
}

// settled takes in the script's reply.
func (l *lane) settled(ctx context.Context, batch []settlement, reply settleReply) {
	elsewhere, restored := indices(reply.Elsewhere), indices(reply.Restored)
	if reply.Problem != "" && l.gate.shut(forwarding, "", errors.New(reply.Problem)) {
		l.log.Error("cannot forward to an output; trying again", "err", reply.Problem)
	}
	now, soon := time.Now(), tickEvery
	release := make([]settlement, 0, len(batch))
	for i, x := range batch {
		switch {
		case restored[i]:
			l.later(ctx, time.Second, func() {
				l.gate.open(forwarding, "")
				l.out.add(x)
			})
			continue
		case elsewhere[i]:
			l.m.elsewhere.Inc() // another replica settled it first, or has it now
		default:
			l.m.settled(x, now)
			if x.kind == retry {
				soon = min(soon, x.delay)
			}
			if x.kind == dead {
				l.log.Error("entry set aside", "channel", l.cfg.In, "event", x.d.EventID, "entry", x.d.EntryID,
					"tries", x.d.Tries, "crashes", x.d.Crashes, "err", x.reason, traceField(x.d.Traceparent))
			}
		}
		release = append(release, x)
	}
	if soon < tickEvery {
		l.later(ctx, soon, func() { nudge(l.poke) })
	}
	if reply.NoReplica {
		l.sawNoReplica()
	}
	l.m.batch.Observe(float64(len(batch)))
	l.replay.settled(release)
	l.hand.release(release)
	for _, i := range reply.Full {
		l.pressed(l.cfg.Out[i-1].Channel, true)
	}
}

// indices makes a set, from 0, of indices from 1.
func indices(list []int) map[int]bool {
	if len(list) == 0 {
		return nil
	}
	set := make(map[int]bool, len(list))
	for _, i := range list {
		set[i-1] = true
	}
	return set
}

// pressed shuts the gate while an output is full, and opens it again.
func (l *lane) pressed(channel string, full bool) {
	if !full {
		if l.gate.open(heldUp, channel) {
			l.log.Info("output has room again", "channel", channel)
		}
		return
	}
	if l.gate.shut(heldUp, channel, fmt.Errorf("%s: %w", channel, ErrBacklog)) {
		l.log.Warn("output is full; not reading", "channel", channel)
	}
}
