package stage

import "sync/atomic"

// lane is a stage's work on one shard: what it has read there and not settled yet, and what keeps
// it from working there. The lanes of a stage share its queue and its workers.
type lane struct {
	*Stage
	*shard

	hand   hand
	replay replay
	eras   eras
	out    *gathering[settlement]
	gate   gate
	last   tickReply // guarded by Stage.figures
	joined bool

	writer atomic.Pointer[string] // whom the shard belongs to; nil: not known, or it is not divided
	since  atomic.Int64           // this consumer took the shard from another, ms; 0: it did not
	waits  atomic.Bool            // its writer is not running
	news   chan struct{}          // writer was stored

	poke  chan struct{} // asks for a tick now
	free  chan struct{} // tick saw that nobody adopts
	token atomic.Value  // string: the token of this stage's adoption, "" if it has none
	known atomic.Int64  // consumers of the channel's groups, as last seen
}

// enlist makes a lane for each shard.
func (s *Stage) enlist(shards []*shard) {
	lanes := make([]*lane, len(shards))
	for i, x := range shards {
		l := &lane{Stage: s, shard: x, out: gather(scriptMost, settleAtOnce, (*settlement).size),
			free: make(chan struct{}, 1), poke: make(chan struct{}, 1), news: make(chan struct{}, 1)}
		l.token.Store("")
		l.gate.init()
		l.hand.init(min(s.cfg.Prefetch, max(readMost, s.cfg.Prefetch/len(shards))), handBytes/len(shards))
		l.gate.shut(starting, "", nil)
		lanes[i] = l
	}
	s.lanes.Store(&lanes)
}

// all are the stage's lanes; none before Redis has said how many shards there are.
func (s *Stage) all() []*lane {
	if l := s.lanes.Load(); l != nil {
		return *l
	}
	return nil
}
