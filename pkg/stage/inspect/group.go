package inspect

import (
	"context"
	"errors"
	"fmt"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/internal/link"
	"github.com/milepost/milepost/pkg/stage/internal/script"
)

// ErrAlive: consumers of the group are running; stop them first.
var ErrAlive = errors.New("consumers of the group are alive")

// ErrStage: the group is a stage's; its Config.Optional says whether entries wait for it.
var ErrStage = errors.New("the group is a stage's")

// Retire ends a group: no entries are kept for it, and publishing no longer waits for it. A stage
// of that name that starts later begins with the first entry that is then in the stream. Errors:
// [stage.ErrNotFound], [ErrAlive].
func (p *Pipeline) Retire(ctx context.Context, channel, group string) error {
	return p.change(ctx, func(l *link.Link) error {
		n, err := l.RunInt(ctx, script.Retire, []string{l.Keys.Stream(channel), l.Keys.Groups(channel), l.Keys.Floors(channel), l.Keys.Stages()}, group)
		return refusal(channel, group, n, err, ErrAlive)
	})
}

// change calls f for each shard in turn, until one fails. Not found are what no shard has.
func (p *Pipeline) change(ctx context.Context, f func(*link.Link) error) error {
	links, err := p.b.Shards(ctx)
	if err != nil {
		return err
	}
	found := false
	for _, l := range links {
		switch failed := f(l); {
		case failed == nil:
			found = true
		case errors.Is(failed, stage.ErrNotFound):
			err = failed
		default:
			return failed
		}
	}
	if found {
		return nil
	}
	return err
}

// refusal is the error of a script that ends or decides about a group. It replied n: 0 if the
// group is unknown, -1 if it refuses because of why.
func refusal(channel, group string, n int, err, why error) error {
	switch {
	case err != nil:
		return err
	case n == 0:
		return fmt.Errorf("group %s of %s: %w", group, channel, stage.ErrNotFound)
	case n == -1:
		return fmt.Errorf("group %s of %s: %w", group, channel, why)
	}
	return nil
}

// AwaitGroup keeps entries until a group that another program made has acked them, however many
// that are: over MaxBacklog, publishing is refused. Errors: [stage.ErrNotFound], [ErrStage].
func (p *Pipeline) AwaitGroup(ctx context.Context, channel, group string) error {
	return p.decide(ctx, channel, group, "required")
}

// IgnoreGroup keeps nothing for a group that another program made. Errors: [stage.ErrNotFound],
// [ErrStage].
func (p *Pipeline) IgnoreGroup(ctx context.Context, channel, group string) error {
	return p.decide(ctx, channel, group, "ignored")
}

func (p *Pipeline) decide(ctx context.Context, channel, group, policy string) error {
	return p.change(ctx, func(l *link.Link) error {
		n, err := l.RunInt(ctx, script.Decide, []string{l.Keys.Stream(channel), l.Keys.Groups(channel)}, group, policy)
		return refusal(channel, group, n, err, ErrStage)
	})
}

// Skip moves a group to the end of its stream and returns how many entries it skipped. It is for a
// stage that comes back after a stand-in did its work. Errors: [stage.ErrNotFound], [ErrAlive].
func (p *Pipeline) Skip(ctx context.Context, channel, group string) (total int, err error) {
	err = p.change(ctx, func(l *link.Link) error {
		n, err := l.RunInt(ctx, script.Skip, []string{l.Keys.Stream(channel), l.Keys.Groups(channel)}, group)
		total += max(n, 0)
		switch {
		case err != nil:
			return err
		case n == -1:
			return fmt.Errorf("group %s of %s: %w", group, channel, stage.ErrNotFound)
		case n == -2:
			return fmt.Errorf("group %s of %s: %w", group, channel, ErrAlive)
		}
		return nil
	})
	return total, err
}

// Claim gives the entries that are pending for a consumer back to its group, deletes the consumer
// and returns how many entries it gave back. It is for a lasting consumer that cannot return,
// because its volume is lost. The consumer must not be running.
func (p *Pipeline) Claim(ctx context.Context, channel, group, consumer string) (int, error) {
	return p.total(ctx, func(_, _ int, l *link.Link) (int, error) {
		if err := l.Check(ctx, l.Client().Del(ctx, l.Keys.Consumer(group, consumer)).Err()); err != nil {
			return 0, err
		}
		for total := 0; ; {
			n, err := l.RunInt(ctx, script.Leave, []string{l.Keys.Stream(channel)}, group, consumer, 128, l.MaxDead)
			if err != nil || n == 0 {
				return total, err
			}
			total += n
		}
	})
}
