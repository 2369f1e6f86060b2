package stage

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/internal/entry"
	"github.com/milepost/milepost/pkg/stage/internal/keys"
)

const (
	readBlock = time.Second // how long an idle read waits; short, since a cancelled context does not end it
	readMost  = 256         // entries in one read

	// A read that finds more than gatherFrom entries, and all there are, is followed by a rest in which the next ones gather: a
	// read, a call of a batch handler and a settling cost the same for many as for few. The rest is short where entries come
	// slowly, and long where 12,500 a second come. Single entries never wait for it.
	gatherFrom = 8
	gatherEach = 80 * time.Microsecond // for each entry read
	gatherMost = 10 * time.Millisecond
)

// held is what was read and is not yet settled: it bounds reading, and tells a re-read entry from one in hand.
type held struct {
	mu    sync.Mutex
	in    map[string]struct{}
	past  map[string]struct{} // released during a pass over what is pending; nil outside of one
	taken map[string]struct{} // what passes took up and is not settled; nil when all of it was
	most  int
	freed chan struct{}
}

func (h *held) init(most int) {
	h.in, h.most, h.freed = map[string]struct{}{}, most, make(chan struct{}, 1)
}

// add tells whether the entry was not held before.
func (h *held) add(entry string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, there := h.in[entry]; there {
		return false
	}
	if _, there := h.past[entry]; there {
		return false
	}
	h.in[entry] = struct{}{}
	if h.past != nil {
		h.taken[entry] = struct{}{}
	}
	return true
}

func (h *held) release(batch []settlement) {
	h.mu.Lock()
	for _, x := range batch {
		delete(h.in, x.d.EntryID)
		delete(h.taken, x.d.EntryID)
		if h.past != nil {
			h.past[x.d.EntryID] = struct{}{}
		}
	}
	h.mu.Unlock()
	select {
	case h.freed <- struct{}{}:
	default:
	}
}

// pass begins a pass over what is pending, until the returned function is called: what is settled meanwhile may still stand
// in a reply that is on its way, and is not new.
func (h *held) pass() (end func()) {
	h.mu.Lock()
	h.past = map[string]struct{}{}
	if h.taken == nil {
		h.taken = map[string]struct{}{}
	}
	h.mu.Unlock()
	return func() {
		h.mu.Lock()
		h.past = nil
		h.mu.Unlock()
	}
}

// through tells, once, that what passes took up is settled.
func (h *held) through() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.past != nil || h.taken == nil || len(h.taken) > 0 {
		return false
	}
	h.taken = nil
	return true
}

// room waits until there is room to read into and tells how much; 0 when ctx ends.
func (h *held) room(ctx context.Context) int {
	for {
		h.mu.Lock()
		n := h.most - len(h.in)
		h.mu.Unlock()
		if n > 0 {
			return n
		}
		select {
		case <-ctx.Done():
			return 0
		case <-h.freed:
		}
	}
}

// readLoop reads into the queue until ctx ends: first what is pending for this consumer, then what is new. After each
// broken connection it starts over, since a lost reply leaves entries pending that '>' never shows again.
func (s *Stage) readLoop(ctx context.Context, starts int) error {
	var wait backoff
	// A lasting consumer that twice failed to get through what it held handles that alone, entry by entry.
	careful := starts > 2
	for ctx.Err() == nil {
		err := s.readConn(ctx, &wait, careful)
		switch {
		case ctx.Err() != nil:
		case err == nil:
		case strings.Contains(err.Error(), "NOGROUP"):
			s.log.Warn("the group is gone; making it anew at its floor", "channel", s.cfg.In)
			if _, err := s.join(ctx, false); err != nil && ctx.Err() == nil {
				return err
			}
		default:
			if s.gate.shut("redis", err) {
				s.log.Warn("waiting for redis", "err", err)
			}
			wait.wait(ctx)
		}
	}
	return nil
}

// readConn reads on one connection until something breaks.
func (s *Stage) readConn(ctx context.Context, wait *backoff, careful bool) error {
	conn := s.b.link.Client.Conn()
	defer conn.Close()
	if err := s.pendingPass(ctx, conn, careful); err != nil {
		return err
	}
	if s.gate.open("redis") {
		s.log.Info("redis is back")
	}
	id, _ := conn.ClientID(ctx).Result() // an embedded Redis does not know it, and is waited for
	unblock := context.AfterFunc(ctx, func() {
		if id > 0 {
			quick, cancel := context.WithTimeout(context.WithoutCancel(ctx), readBlock)
			defer cancel()
			_ = s.b.link.Client.ClientUnblock(quick, id).Err()
		}
	})
	defer unblock()
	for {
		s.gate.wait(ctx)
		room := s.held.room(ctx)
		if ctx.Err() != nil {
			return nil
		}
		most := min(room, readMost)
		in, err := s.read(ctx, conn, ">", most, readBlock)
		if err != nil {
			return err
		}
		wait.next = 0
		s.accept(in, false)
		if len(in) > gatherFrom && len(in) < most {
			select {
			case <-ctx.Done():
			case <-time.After(min(time.Duration(len(in))*gatherEach, gatherMost)):
			}
		}
	}
}

// pendingPass reads what is already pending for this consumer and is not in hand.
func (s *Stage) pendingPass(ctx context.Context, conn *redis.Conn, careful bool) error {
	defer s.held.pass()()
	found := 0
	for after := "0"; ; {
		room := s.held.room(ctx)
		if ctx.Err() != nil {
			return nil
		}
		in, err := s.read(ctx, conn, after, min(room, readMost), 0)
		if err != nil {
			return err
		}
		if len(in) == 0 {
			break
		}
		after = in[len(in)-1].EntryID
		found += s.accept(in, careful)
	}
	if found > 0 {
		s.m.again.Add(float64(found))
		s.log.Info("took up what was pending", "entries", found)
	}
	return nil
}

// survived forgets how often a lasting consumer started, since it has settled what it held: it does not die of that.
func (s *Stage) survived(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.b.link.Check(ctx, s.b.link.Client.HDel(ctx, s.b.keys.Groups(s.cfg.In), keys.Starts(s.cfg.Name, s.name)).Err())
}

// read runs one XREADGROUP. block 0 does not block.
func (s *Stage) read(ctx context.Context, conn *redis.Conn, after string, count int, block time.Duration) ([]delivery, error) {
	args := []any{"xreadgroup", "group", s.cfg.Name, s.name, "count", count}
	if block > 0 {
		args = append(args, "block", block.Milliseconds())
	}
	args = append(args, "streams", s.b.keys.Stream(s.cfg.In), after)
	// Not ctx: a reply that is under way when the signal comes holds entries that are ours to hand back.
	call := context.WithoutCancel(ctx)
	cmd := redis.NewRawCmd(call, args...)
	err := conn.Process(call, cmd)
	var in []delivery
	if err == nil {
		in, err = s.deliveries(cmd.Val())
	}
	return in, s.b.link.Check(ctx, err)
}

// deliveries are the entries of a raw reply of XREADGROUP.
func (s *Stage) deliveries(reply []byte) ([]delivery, error) {
	entries, err := entry.Read(reply)
	now, in := time.Now(), make([]delivery, len(entries))
	for i := range entries {
		in[i] = delivery{Entry: entries[i], channel: s.cfg.In, read: now}
	}
	return in, err
}

// accept queues entries, and settles at once what needs no handler. It returns how many were new here.
func (s *Stage) accept(in []delivery, careful bool) int {
	work := make([]*delivery, 0, len(in))
	n := 0
	for i := range in {
		d := &in[i]
		if !s.held.add(d.EntryID) {
			continue
		}
		n++
		switch {
		case d.For != "" && d.For != s.cfg.Name:
			s.out.add(settlement{d: d, kind: forward, quiet: true})
		case d.Bodiless:
			s.out.add(settlement{d: d, kind: dead, reason: "the entry was pending but its body is no longer in the stream"})
		default:
			work = append(work, d)
		}
	}
	s.queue.push(work, func(d *delivery) bool { return careful || d.Crashes >= 2 })
	return n
}
