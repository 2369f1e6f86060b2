package stage

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/milepost/milepost/pkg/stage/internal/link"
	"github.com/milepost/milepost/pkg/stage/internal/script"
)

// Limit allows Max submissions in Per for all that share Name, across processes: at once, or evenly
// as Per goes by (the generic cell rate algorithm, ITU-T I.371).
type Limit struct {
	Name string
	Max  int
	Per  time.Duration
}

// LimitError says that a publish would exceed one of its [Limit]s. Nothing was kept.
type LimitError struct {
	Limit Limit
	Retry time.Duration // when the next one fits
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("over %d in %s; next in %s", e.Limit.Max, e.Limit.Per, e.Retry)
}

// admit checks the limits of a submission in a pipeline of several shards, where a limit and the
// event may be on different ones. So a submission that is refused by its second limit has used up
// its place in the first one. A repeat uses up none: its key is looked up before, on its shard. A
// limit does not count while its shard is away.
func (p *Publisher) admit(ctx context.Context, outlets []*outlet, s *Submission) error {
	limits := s.Limits
	s.Limits = nil
	if len(limits) > 0 && s.Key != "" {
		o := outlets[ShardOf(s.ID, len(outlets))]
		known, err := s.known(ctx, o)
		if known || err != nil {
			return o.link.Check(ctx, err) // a repeat: the publish script says so
		}
	}
	for _, l := range limits {
		o := outlets[ShardOf(l.Name, len(outlets))]
		if !o.works() {
			continue
		}
		call, cancel := context.WithTimeout(ctx, awayFor)
		reply, err := o.link.Run(call, script.Limit, []string{o.keys.Limit(l.Name)}, 1, l.Max, l.Per.Milliseconds())
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		text, refused := reply.(string)
		if err != nil || !refused {
			o.failed(err)
			continue
		}
		var r struct {
			Wait  int
			Error string
		}
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			return fmt.Errorf("reply of the limit script: %w", err)
		}
		if r.Error != "" {
			return o.link.Check(ctx, link.Reply(r.Error))
		}
		return &LimitError{Limit: l, Retry: time.Duration(r.Wait) * time.Millisecond}
	}
	return nil
}
