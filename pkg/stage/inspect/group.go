package inspect

import (
	"context"
	"errors"
	"fmt"

	"github.com/milepost/milepost/pkg/stage"
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
	n, err := p.link.RunInt(ctx, script.Retire, []string{p.link.Keys.Stream(channel), p.link.Keys.Groups(channel), p.link.Keys.Floors(channel), p.link.Keys.Stages()}, group)
	return refusal(channel, group, n, err, ErrAlive)
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
	n, err := p.link.RunInt(ctx, script.Decide, []string{p.link.Keys.Stream(channel), p.link.Keys.Groups(channel)}, group, policy)
	return refusal(channel, group, n, err, ErrStage)
}

// Skip moves a group to the end of its stream and returns how many entries it skipped. It is for a
// stage that comes back after a stand-in did its work. Errors: [stage.ErrNotFound], [ErrAlive].
func (p *Pipeline) Skip(ctx context.Context, channel, group string) (int, error) {
	n, err := p.link.RunInt(ctx, script.Skip, []string{p.link.Keys.Stream(channel), p.link.Keys.Groups(channel)}, group)
	if err != nil {
		return 0, err
	}
	switch n {
	case -1:
		return 0, fmt.Errorf("group %s of %s: %w", group, channel, stage.ErrNotFound)
	case -2:
		return 0, fmt.Errorf("group %s of %s: %w", group, channel, ErrAlive)
	}
	return n, nil
}

// Claim gives the entries that are pending for a consumer back to its group, deletes the consumer
// and returns how many entries it gave back. It is for a lasting consumer that cannot return,
// because its volume is lost. The consumer must not be running.
func (p *Pipeline) Claim(ctx context.Context, channel, group, consumer string) (int, error) {
	if err := p.link.Check(ctx, p.link.Client().Del(ctx, p.link.Keys.Consumer(group, consumer)).Err()); err != nil {
		return 0, err
	}
	for total := 0; ; {
		n, err := p.link.RunInt(ctx, script.Leave, []string{p.link.Keys.Stream(channel)}, group, consumer, 128, p.link.MaxDead)
		if err != nil {
			return total, err
		}
		if n == 0 {
			return total, nil
		}
		total += n
	}
}
