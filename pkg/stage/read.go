package stage

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/internal/entry"
	"github.com/milepost/milepost/pkg/stage/internal/keys"
	"github.com/milepost/milepost/pkg/stage/internal/link"
	"github.com/milepost/milepost/pkg/stage/internal/poison"
)

const (
	readBlock = time.Second // how long an idle read waits; short, since a cancelled context does not end it
	readMost  = 256         // entries in one read

	readBlockCluster = 5 * time.Second // CLIENT UNBLOCK ends it, which every node of a cluster knows

	// A read that finds more than gatherFrom entries, but less than it could, is followed by a
	// rest in which more gather: reading, a batch handler's call and settling cost nearly the
	// same for many as for few. The rest is longest at 12,500 entries a second. A single entry
	// never waits.
	gatherFrom = 8
	gatherEach = 80 * time.Microsecond // for each entry read
	gatherMost = 10 * time.Millisecond
)

// readLoop reads into the queue until ctx ends: first what is pending for this consumer, then what
// is new. It starts over after each broken connection, since the entries of a lost reply are
// pending and '>' never shows them again. starts is what join returned.
func (l *lane) readLoop(ctx context.Context, starts int) {
	var wait backoff
	careful := poison.Careful(starts)
	for ctx.Err() == nil {
		err := l.readConn(ctx, &wait, careful)
		switch {
		case ctx.Err() != nil:
		case err == nil:
		case strings.Contains(err.Error(), "NOGROUP"):
			l.log.Warn("the group is gone; making it anew at its floor", "channel", l.cfg.In)
			_, _ = l.join(ctx, false) // an error is that of ctx
		default:
			if l.gate.shut(redisAway, "", err) {
				l.log.Warn("waiting for redis", "err", err)
			}
			wait.wait(ctx)
		}
	}
}

// readConn reads on one connection until an error. With careful, what was pending is handled alone.
func (l *lane) readConn(ctx context.Context, wait *backoff, careful bool) error {
	master := l.link.Client()
	conn := master.Conn()
	defer conn.Close()
	era, err := l.eraOf(ctx, conn)
	if err != nil {
		return err
	}
	if err := l.pendingPass(ctx, conn, era, careful); err != nil {
		return err
	}
	if l.gate.open(redisAway, "") {
		l.log.Info("redis is back")
	}
	read := make(chan struct{})
	defer close(read)
	if id, err := conn.ClientID(ctx).Result(); err == nil { // an embedded Redis does not know it: its reads end by themselves
		l.background.Go(func() { l.unblock(ctx, master, id, read) })
	}
	for {
		l.gate.wait(ctx)
		room := l.hand.room(ctx)
		if ctx.Err() != nil || era != l.eras.now() {
			return nil
		}
		most := min(room, readMost)
		in, err := l.read(ctx, conn, era, ">", most, l.block)
		if err != nil {
			return err
		}
		wait.next = 0
		l.accept(in)
		runtime.Gosched() // the handler, and its settling, go before the next read: 0.05 ms for a single entry
		if len(in) > gatherFrom && len(in) < most {
			select {
			case <-ctx.Done():
			case <-time.After(min(time.Duration(len(in))*gatherEach, gatherMost)):
			}
		}
	}
}

// unblock ends the read that waits on the connection when ctx ends, unless done is closed first.
func (l *lane) unblock(ctx context.Context, master *redis.Client, id int64, done chan struct{}) {
	select {
	case <-done:
	case <-ctx.Done():
		quick, cancel := context.WithTimeout(context.WithoutCancel(ctx), readBlock)
		defer cancel()
		for quick.Err() == nil { // the read may begin just now
			_ = master.ClientUnblock(quick, id).Err()
			select {
			case <-done:
				return
			case <-quick.Done():
			case <-time.After(readBlock / 20):
			}
		}
	}
}

// pendingPass reads what is already pending for this consumer and is not in hand.
func (l *lane) pendingPass(ctx context.Context, conn *redis.Conn, era int, careful bool) error {
	l.replay.read.Store(false)
	if l.replay.era.Swap(int64(era)) != int64(era) {
		l.replay.unsettled.Store(0)
	}
	found := 0
	for after := "0"; ; {
		room := l.hand.room(ctx)
		if ctx.Err() != nil {
			return nil
		}
		inHand := l.hand.now() // what is settled while the reply travels is in the reply, but not new
		in, err := l.read(ctx, conn, era, after, min(room, readMost), noBlock)
		if err != nil {
			return err
		}
		if len(in) == 0 {
			break
		}
		after = in[len(in)-1].EntryID
		in = slices.DeleteFunc(in, func(d delivery) bool { _, known := inHand[d.EntryID]; return known })
		for i := range in {
			in[i].replayed, in[i].alone = true, careful
		}
		l.replay.unsettled.Add(int64(len(in)))
		l.accept(in)
		found += len(in)
	}
	l.replay.read.Store(true)
	if found > 0 {
		l.m.again.Add(float64(found))
		l.log.Info("took up what was pending", "entries", found)
	}
	return nil
}

// survived forgets the starts of a lasting consumer: it has settled what it held, so it does not
// die of that.
func (l *lane) survived(ctx context.Context) error {
	ctx, cancel := link.Within(ctx, callTimeout)
	defer cancel()
	return l.link.Check(ctx, l.link.Client().HDel(ctx, l.keys.Groups(l.cfg.In), keys.Starts(l.cfg.Name, l.name)).Err())
}

const noBlock = -1

// read runs one XREADGROUP.
func (l *lane) read(ctx context.Context, conn *redis.Conn, era int, after string, count int, block time.Duration) ([]delivery, error) {
	// Not ctx: a reply that travels when ctx ends holds entries that this consumer must hand
	// back.
	streams, err := conn.XReadGroup(context.WithoutCancel(ctx), &redis.XReadGroupArgs{
		Group: l.cfg.Name, Consumer: l.name, Streams: []string{l.keys.Stream(l.cfg.In), after}, Count: int64(count), Block: block,
	}).Result()
	if err = l.link.Check(ctx, err); errors.Is(err, ErrRefused) {
		return nil, fmt.Errorf("read %s: %w", l.keys.Stream(l.cfg.In), err)
	} else if err != nil || len(streams) == 0 {
		return nil, err
	}
	now, in := time.Now(), make([]delivery, len(streams[0].Messages))
	for i, m := range streams[0].Messages {
		in[i] = delivery{Entry: entry.Of(m), lane: l, era: era, read: now}
	}
	return in, nil
}

// accept queues entries, and settles at once what needs no handler.
func (l *lane) accept(in []delivery) {
	l.hand.learn(in)
	work := make([]*delivery, 0, len(in))
	for i := range in {
		d := &in[i]
		if !l.hand.add(d) {
			continue
		}
		switch {
		case d.For != "" && d.For != l.cfg.Name:
			l.out.add(settlement{d: d, kind: skip})
		case d.Bodiless:
			l.out.add(settlement{d: d, kind: dead, reason: "the entry was pending but its body is no longer in the stream"})
		case d.NoPayload:
			l.out.add(settlement{d: d, kind: dead, reason: "the entry had no field payload; the payload of this letter is what it had"})
		default:
			d.alone = d.alone || poison.HandledAlone(d.Crashes)
			work = append(work, d)
		}
	}
	l.queue.push(work...)
}
