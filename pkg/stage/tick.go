package stage

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/milepost/milepost/pkg/stage/internal/entry"
	"github.com/milepost/milepost/pkg/stage/internal/link"
	"github.com/milepost/milepost/pkg/stage/internal/script"
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
	keys := []string{s.b.keys.Stream(s.cfg.In), s.b.keys.Consumer(s.cfg.Name, s.name), s.b.keys.Adopter(s.cfg.In)}
	var unread strings.Builder
	for _, o := range s.cfg.Out {
		keys = append(keys, s.b.keys.Stream(o.Channel))
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
			survived = s.replay.done() && s.survived(ctx) == nil // an error is no harm: the next start tries it again
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
	mayDeclareGone, lasting := "", ""
	if s.lasting {
		lasting = "1"
	}
	if s.b.link.UpFor(s.b.opt.Lease) {
		mayDeclareGone = "1"
	}
	works := "1"
	if st, why := s.gate.state(); st != "" {
		works = strings.TrimSuffix(string(st)+": "+why, ": ")
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := s.b.link.Run(call, script.Tick, keys,
		s.cfg.Name, s.name, s.b.opt.Lease.Milliseconds(), s.token.Load(), s.b.opt.MaxBacklog, s.b.opt.MaxDead, mayDeclareGone, moveMost, unread, lasting, works)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, ErrUnavailable) {
			s.log.Error("chores failed", "err", err)
		}
		return false
	}
	if link.Int(r[0]) == 0 {
		if s.gate.ready() == nil {
			s.log.Warn("redis does not know this consumer or its group any more; joining again", "consumer", s.name)
		}
		_, _ = s.join(ctx, false)
		return false
	}
	if link.Text(r[1]) == "free" {
		select {
		case s.free <- struct{}{}:
		default:
		}
	}
	for i, full := range link.List(r[3]) {
		s.pressed(s.cfg.Out[i].Channel, link.Int(full) == 1)
	}
	f := &figures{backlog: link.Int(r[4]), pending: link.Int(r[5]), due: link.Int(r[7]), dead: link.Int(r[8]), lost: link.Int(r[10]), consumers: link.Int(r[12]), at: time.Now()}
	if id := link.Text(r[6]); id != "" {
		f.oldest = entry.Time(id)
	}
	if n := link.Int(r[9]); n > 0 {
		s.m.takenOver.Add(float64(n))
		s.log.Warn("took over from consumers that are gone", "consumers", n)
	}
	s.known.Store(int64(link.Int(r[11])))
	s.m.figures(f)
	return link.Int(r[2]) == 1
}
