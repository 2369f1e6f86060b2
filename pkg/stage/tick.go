package stage

import (
	"context"
	"errors"
	"strings"
	"time"
)

const (
	tickEvery = time.Second
	moveMost  = 256 // entries that one tick moves at most; it ticks again at once if there are more
)

// figures are what the last tick saw of the stage's group.
type figures struct {
	backlog, pending, due, dead, lost, consumers int
	oldest                                       time.Time // of the oldest unsettled entry; zero if there is none
	at                                           time.Time
}

// tickLoop does the chores of this consumer once a second until ctx ends, in one script.
func (s *Stage) tickLoop(ctx context.Context) {
	keys := []string{s.cfg.In, consumerKey(s.cfg.Name, s.name), adopterKey(s.cfg.In)}
	var unread strings.Builder
	for _, o := range s.cfg.Out {
		keys = append(keys, o.Channel)
		if o.Unread {
			unread.WriteByte('1')
		} else {
			unread.WriteByte('0')
		}
	}
	every := min(tickEvery, s.b.opt.Lease/3)
	timer := time.NewTimer(0)
	defer timer.Stop()
	survived := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.poke: // a retry of ours is due before the next tick
		}
		more := s.tick(ctx, keys, unread.String())
		if s.lasting && !survived {
			survived = s.held.through() && s.survived(ctx) == nil // one that fails is no harm: another start forgets them
		}
		if more {
			timer.Reset(0)
		} else {
			timer.Reset(every)
		}
	}
}

// tick runs the script once and tells whether there is more to move at once.
func (s *Stage) tick(ctx context.Context, keys []string, unread string) bool {
	judge, lasting := "", ""
	if s.lasting {
		lasting = "1"
	}
	if s.b.link.upFor(s.b.opt.Lease) {
		judge = "1"
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := s.b.run(call, tickScript, keys,
		s.cfg.Name, s.name, s.b.opt.Lease.Milliseconds(), s.token.Load(), s.b.opt.MaxBacklog, s.b.opt.MaxDead, judge, moveMost, unread, lasting, s.gate.state())
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, ErrUnavailable) {
			s.log.Error("chores failed", "err", err)
		}
		return false
	}
	if number(r[0]) == 0 {
		if s.gate.why() == nil {
			s.log.Warn("redis does not know this consumer or its group any more; joining again", "consumer", s.name)
		}
		_, _ = s.join(ctx, false)
		return false
	}
	if text(r[1]) == "free" {
		select {
		case s.free <- struct{}{}:
		default:
		}
	}
	for i, full := range list(r[3]) {
		s.pressed(s.cfg.Out[i].Channel, number(full) == 1)
	}
	f := &figures{backlog: number(r[4]), pending: number(r[5]), due: number(r[7]), dead: number(r[8]), lost: number(r[10]), consumers: number(r[12]), at: time.Now()}
	if id := text(r[6]); id != "" {
		f.oldest = entryTime(id)
	}
	if n := number(r[9]); n > 0 {
		s.m.takenOver.Add(float64(n))
		s.log.Warn("took over from consumers that are gone", "consumers", n)
	}
	s.known.Store(int64(number(r[11])))
	s.m.figures(f)
	return number(r[2]) == 1
}
