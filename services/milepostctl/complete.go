package milepostctl

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

// ask asks Redis for the words that a shell may complete: none if it does not answer at once.
func (t *tool) ask(cmd *cobra.Command, f func(context.Context, pipeline) ([]string, error)) (words []string) {
	if t.prepare(cmd, nil) != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
	defer cancel()
	err := t.open(ctx, func(ctx context.Context, p pipeline) (err error) {
		words, err = f(ctx, p)
		return err
	})
	if err != nil {
		return nil
	}
	return words
}

// completeChannels completes any number of channels.
func (t *tool) completeChannels(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	words := t.ask(cmd, func(ctx context.Context, p pipeline) ([]string, error) { return p.known(ctx) })
	if words == nil {
		words = slices.Clone(channels)
	}
	return slices.DeleteFunc(words, func(w string) bool { return slices.Contains(args, w) }), cobra.ShellCompDirectiveNoFileComp
}

// completeGroup completes a channel and then one of its groups.
func (t *tool) completeGroup(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return t.completeChannels(cmd, args, typed)
	case 1:
		return t.ask(cmd, func(ctx context.Context, p pipeline) (names []string, err error) {
			s, err := p.Status(ctx, args[0])
			for _, g := range s.Groups {
				names = append(names, g.Name)
			}
			for _, f := range s.Foreign {
				names = append(names, f.Name)
			}
			return names, err
		}), cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// completeLetters completes a channel and then its dead letters, with their errors.
func (t *tool) completeLetters(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return t.completeChannels(cmd, args, typed)
	}
	return t.ask(cmd, func(ctx context.Context, p pipeline) (words []string, err error) {
		letters, err := p.DeadLetters(ctx, args[0], "", deadPage)
		for _, d := range letters {
			if !slices.Contains(args, d.Entry) {
				words = append(words, d.Entry+"\t"+d.Group+": "+printable(d.Error))
			}
		}
		return words, err
	}), cobra.ShellCompDirectiveNoFileComp
}
