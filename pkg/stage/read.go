package stage

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/internal/entry"
	"github.com/milepost/milepost/pkg/stage/internal/keys"
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
func (s *lane) readLoop(ctx context.Context, starts int) {
	var wait backoff
	careful := poison.Careful(starts)
	for ctx.Err() == nil {
		err := s.readConn(ctx, &wait, careful)
		switch {
		case ctx.Err() != nil:
		case err == nil:
		case strings.Contains(err.Error(), "NOGROUP"):
			s.log.Warn("the group is gone; making it anew at its floor", "channel", s.cfg.In)
			_, _ = s.join(ctx, false) // an error is that of ctx
		default:
			if s.gate.shut(redisAway, "", err) {
				s.log.Warn("waiting for redis", "err", err)
			}
			wait.wait(ctx)
		}
	}
}

// readConn reads on one connection until an error. With careful, what was pending is handled alone.
func (s *lane) readConn(ctx context.Context, wait *backoff, careful bool) error {
	master := s.link.Client()
	conn := master.Conn()
	defer conn.Close()
	era, err := s.enter(ctx, conn)
	if err != nil {
		return err
	}
	if err := s.pendingPass(ctx, conn, era, careful); err != nil {
		return err
	}
	if s.gate.open(redisAway, "") {
		s.log.Info("redis is back")
	}
	read := make(chan struct{})
	defer close(read)
	if id, err := conn.ClientID(ctx).Result(); err == nil { // an embedded Redis does not know it: its reads end by themselves
		s.chores.Go(func() { s.unblock(ctx, master, id, read) })
	}
	for {
		s.gate.wait(ctx)
		room := s.hand.room(ctx)
		if ctx.Err() != nil || era != s.eras.now() {
			return nil
		}
		most := min(room, readMost)
		in, err := s.read(ctx, conn, era, ">", most, s.block)
		if err != nil {
			return err
		}
		wait.next = 0
		s.accept(in)
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
func (s *lane) unblock(ctx context.Context, master *redis.Client, id int64, done chan struct{}) {
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
func (s *lane) pendingPass(ctx context.Context, conn *redis.Conn, era int, careful bool) error {
	s.replay.read.Store(false)
	if s.replay.era.Swap(int64(era)) != int64(era) {
		s.replay.unsettled.Store(0)
	}
	found := 0
	for after := "0"; ; {
		room := s.hand.room(ctx)
		if ctx.Err() != nil {
			return nil
		}
		inHand := s.hand.now() // what is settled while the reply travels is in the reply, but not new
		in, err := s.read(ctx, conn, era, after, min(room, readMost), noBlock)
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
		s.replay.unsettled.Add(int64(len(in)))
		s.accept(in)
		found += len(in)
	}
	s.replay.read.Store(true)
	if found > 0 {
		s.m.again.Add(float64(found))
		s.log.Info("took up what was pending", "entries", found)
	}
	return nil
}

// survived forgets the starts of a lasting consumer: it has settled what it held, so it does not
// die of that.
func (s *lane) survived(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.link.Check(ctx, s.link.Client().HDel(ctx, s.keys.Groups(s.cfg.In), keys.Starts(s.cfg.Name, s.name)).Err())
}

const noBlock = -1

// read runs one XREADGROUP.
func (s *lane) read(ctx context.Context, conn *redis.Conn, era int, after string, count int, block time.Duration) ([]delivery, error) {
	// Not ctx: a reply that travels when ctx ends holds entries that this consumer must hand
	// back.
	streams, err := conn.XReadGroup(context.WithoutCancel(ctx), &redis.XReadGroupArgs{
		Group: s.cfg.Name, Consumer: s.name, Streams: []string{s.keys.Stream(s.cfg.In), after}, Count: int64(count), Block: block,
	}).Result()
	if err = s.link.Check(ctx, err); err != nil || len(streams) == 0 {
		return nil, err
	}
	now, in := time.Now(), make([]delivery, len(streams[0].Messages))
	for i, m := range streams[0].Messages {
		in[i] = delivery{Entry: entry.Of(m), lane: s, era: era, read: now}
	}
	return in, nil
}

// accept queues entries, and settles at once what needs no handler.
func (s *lane) accept(in []delivery) {
	s.hand.learn(in)
	work := make([]*delivery, 0, len(in))
	for i := range in {
		d := &in[i]
		if !s.hand.add(d) {
			continue
		}
		switch {
		case d.For != "" && d.For != s.cfg.Name:
			s.out.add(settlement{d: d, kind: forward, quiet: true})
		case d.Bodiless:
			s.out.add(settlement{d: d, kind: dead, reason: "the entry was pending but its body is no longer in the stream"})
		case d.NoPayload:
			s.out.add(settlement{d: d, kind: dead, reason: "the entry had no field payload; the payload of this letter is what it had"})
		default:
			d.alone = d.alone || poison.HandledAlone(d.Crashes)
			work = append(work, d)
		}
	}
	s.queue.push(work...)
}
