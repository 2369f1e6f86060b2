package stage

import "context"

// Stage is a handler at work on a channel.
type Stage struct{}

// New makes a stage; it does nothing until Run. An error names the field of c that cannot work.
func (b *Broker) New(c Config, h Handler) (*Stage, error) { panic("not built yet") }

// Run reads, handles and settles until ctx is cancelled, then drains: it stops reading, finishes what it holds (Drain at
// most), settles it, hands the rest back for another replica and returns nil. It returns an error only for what waiting
// cannot mend; outages of Redis are waited out, however long.
func (s *Stage) Run(ctx context.Context) error { panic("not built yet") }

// Ready is nil while the stage works, else it says what it waits for ("redis is away: …", "paused: mongo: …").
func (s *Stage) Ready() error { panic("not built yet") }

// Name is the stage's name.
func (s *Stage) Name() string { panic("not built yet") }
