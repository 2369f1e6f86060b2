package stage

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/milepost/milepost/pkg/stage/internal/link"
	"github.com/milepost/milepost/pkg/stage/internal/script"
)

// dealer gives submissions that may go to any shard to the shards in turn, a whole batch each: a
// script alone takes Redis 24 µs, and each submission in it 0.6 µs.
type dealer struct {
	*gathering[publishing]
	outlets []*outlet
	ended   chan struct{}
}

const (
	dealWait = 20 * time.Millisecond // for a shard's answer; then the next shard gets the next batch
	awayFor  = time.Second           // a shard that failed is left out for so long
)

func newDealer(outlets []*outlet) *dealer {
	d := &dealer{gathering: gather(scriptMost, 1, (*publishing).size), outlets: outlets, ended: make(chan struct{})}
	go d.loop()
	return d
}

func (d *dealer) loop() {
	defer close(d.ended)
	for turn := 0; ; {
		batch := d.take()
		if len(batch) == 0 {
			return
		}
		for range d.outlets { // if all failed, each gets its turn all the same
			if turn = (turn + 1) % len(d.outlets); d.outlets[turn].works() {
				break
			}
		}
		for i := range batch {
			batch[i].s.ID = idFor(batch[i].s.ID, turn, len(d.outlets))
		}
		done := make(chan struct{})
		batch[len(batch)-1].done = done
		if d.outlets[turn].add(batch...) { // else closed: Publish was not to be called any more
			select {
			case <-done:
			case <-time.After(dealWait):
			}
		}
		d.done(batch)
	}
}

// works tells whether the shard did not fail just now, and has no backlog of submissions.
func (o *outlet) works() bool {
	return o.waiting() < scriptMost && time.Since(time.Unix(0, o.away.Load())) > awayFor
}

// known tells whether the outlet's shard has the submission's key.
func (s *Submission) known(ctx context.Context, o *outlet) (bool, error) {
	key, field := s.keptAs(o.keys)
	if field != "" {
		return o.link.Client().HExists(ctx, key, field).Result()
	}
	n, err := o.link.Client().Exists(ctx, key).Result()
	return n > 0, err
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
