package milepostctl

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// completes completes arguments with words that f asks Redis for: none if it does not answer at
// once. A word may be followed by a tab and what it means.
func (t *tool) completes(f func(ctx context.Context, p pipeline, args []string) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) (words []string, _ cobra.ShellCompDirective) {
		if t.prepare(cmd, nil) == nil {
			ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
			defer cancel()
			_ = t.open(ctx, func(ctx context.Context, p pipeline) (err error) { // there is nobody to tell
				words, err = f(ctx, p, args)
				return err
			})
		}
		return slices.DeleteFunc(words, func(w string) bool {
			word, _, _ := strings.Cut(w, "\t")
			return slices.Contains(args, word)
		}), cobra.ShellCompDirectiveNoFileComp
	}
}

// channelWords completes any number of channels.
func channelWords(ctx context.Context, p pipeline, _ []string) ([]string, error) { return p.known(ctx) }

// groupWords completes a channel and then one of its groups.
func groupWords(ctx context.Context, p pipeline, args []string) ([]string, error) {
	switch len(args) {
	case 0:
		return p.known(ctx)
	case 1:
		s, err := p.Status(ctx, args[0])
		return groupNames(s), err
	}
	return nil, nil
}

// letterWords completes a channel and then its dead letters, with their errors.
func letterWords(ctx context.Context, p pipeline, args []string) (words []string, err error) {
	if len(args) == 0 {
		return p.known(ctx)
	}
	letters, err := p.DeadLetters(ctx, args[0], "", deadPage)
	for _, d := range letters {
		words = append(words, d.Entry+"\t"+d.Group+": "+printable(d.Error))
	}
	return words, err
}
