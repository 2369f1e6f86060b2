package milepostctl

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

// ask asks Redis for what a shell may complete; nothing if it does not answer at once.
func (t *tool) ask(cmd *cobra.Command, f func(context.Context, *stage.Broker) ([]string, error)) []string {
	if t.prepare(cmd, nil) != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
	defer cancel()
	var words []string
	err := t.open(ctx, func(ctx context.Context, b *stage.Broker) (err error) {
		words, err = f(ctx, b)
		return err
	})
	if err != nil {
		return nil
	}
	return words
}

// completeChannels completes any number of channels.
func (t *tool) completeChannels(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	words := t.ask(cmd, known)
	if words == nil {
		words = slices.Clone(channels)
	}
	return slices.DeleteFunc(words, func(w string) bool { return slices.Contains(args, w) }), cobra.ShellCompDirectiveNoFileComp
}

// completeGroup completes a channel and then a group of it.
func (t *tool) completeGroup(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return t.completeChannels(cmd, args, typed)
	}
	if len(args) > 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return t.ask(cmd, func(ctx context.Context, b *stage.Broker) (names []string, err error) {
		s, err := inspect.New(b).Status(ctx, args[0])
		for _, g := range s.Groups {
			names = append(names, g.Name)
		}
		return names, err
	}), cobra.ShellCompDirectiveNoFileComp
}

// completeLetters completes a channel and then entries of dead letters, with their reasons.
func (t *tool) completeLetters(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return t.completeChannels(cmd, args, typed)
	}
	return t.ask(cmd, func(ctx context.Context, b *stage.Broker) (words []string, err error) {
		letters, err := inspect.New(b).DeadLetters(ctx, args[0], "", deadPage)
		for _, d := range letters {
			if !slices.Contains(args, d.Entry) {
				words = append(words, d.Entry+"\t"+d.Group+": "+printable(d.Error))
			}
		}
		return words, err
	}), cobra.ShellCompDirectiveNoFileComp
}
