package stage

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/milepost/milepost/pkg/stage/internal/poison"
	"github.com/milepost/milepost/pkg/stage/internal/script"
)

const (
	tickEvery = time.Second
	moveMost  = 256 // entries that one tick moves; if there are more, the next tick follows at once
)

// tickReply is the script's reply, as its header says.
type tickReply struct {
	Known, More                                  bool
	Adopter                                      string
	Full                                         []int
	Backlog, Pending, Due, Dead, Lost, Consumers int
	Oldest                                       string
	TakenOver                                    int   `json:"taken_over"`
	AllConsumers                                 int64 `json:"all_consumers"`
}

// tickLoop runs the tick script once a second until ctx ends: it does all chores of this consumer.
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
		case <-s.poke: // a retry of this process is due before the next tick
		}
		more := s.tick(ctx, keys, unread.String())
		if s.lasting && !survived {
			survived = s.replay.done() && s.survived(ctx) == nil // after an error the next start tries again
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
	maxCrashes, lasting := any(""), ""
	if s.b.link.UpFor(s.b.opt.Lease) {
		maxCrashes = poison.MaxCrashes
	}
	if s.lasting {
		lasting = "1"
	}
	var r tickReply
	err := s.b.link.RunJSON(ctx, &r, script.Tick, keys, s.cfg.Name, s.name, s.b.opt.Lease.Milliseconds(), s.token.Load(),
		s.b.opt.MaxBacklog, s.b.opt.MaxDead, maxCrashes, moveMost, unread, lasting, s.works())
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, ErrUnavailable) {
			s.log.Error("chores failed", "err", err)
		}
		return false
	}
	if !r.Known {
		if s.gate.ready() == nil {
			s.log.Warn("redis does not know this consumer or its group any more; joining again", "consumer", s.name)
		}
		_, _ = s.join(ctx, false)
		return false
	}
	if r.Adopter == "free" {
		select {
		case s.free <- struct{}{}:
		default:
		}
	}
	for i, o := range s.cfg.Out {
		s.pressed(o.Channel, slices.Contains(r.Full, i+1))
	}
	if r.TakenOver > 0 {
		s.m.takenOver.Add(float64(r.TakenOver))
		s.log.Warn("took over from consumers that are gone", "consumers", r.TakenOver)
	}
	s.known.Store(r.AllConsumers)
	s.m.figures(&r)
	return r.More
}

// works is "1" while the stage works, else JSON of what keeps it from working, for status.
func (s *Stage) works() string {
	state, why := s.gate.state()
	if state == "" {
		return "1"
	}
	text, _ := json.Marshal(map[string]string{"state": string(state), "why": why})
	return string(text)
}
