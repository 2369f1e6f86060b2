package milepostctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/services/internal/newservice"
)

func (t *tool) newService() *cobra.Command {
	s := newservice.Spec{}
	cmd := &cobra.Command{
		Use:   "new-service NAME --from CHANNEL",
		Short: "Write a service that joins the pipeline",
		Long: `new-service writes services/NAME in the repository: a package with a handler, a main and a test. The
service reads the channel --from in a consumer group of its own and publishes on --to. It works at once;
you fill in its function Handle. new-service adds lines to docker-compose.yml, to Prometheus' targets and to
the chart's values. It changes no other service.`,
		Example: `  milepostctl new-service tide --from raw_input --to tides`,
		Args:    needs("NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			s.Name = args[0]
			w, err := newservice.Write(s)
			switch {
			case err != nil:
				return refused(err)
			case t.output == "json":
				return t.json(struct {
					Service string `json:"service"`
					newservice.Written
				}{s.Name, w})
			}
			fmt.Fprintf(t.Out, "Wrote:\n  %s\nAdded the service to:\n  %s\n", strings.Join(w.Files, "\n  "), strings.Join(w.Changed, "\n  "))
			for _, path := range slices.Sorted(maps.Keys(w.Left)) {
				fmt.Fprintf(t.Out, "%s has no line %q; add these lines:\n\n%s\n", path, newservice.Mark, w.Left[path])
			}
			fmt.Fprintf(t.Out, `
Fill in:    Handle in %s
Test it:    go test ./services/%[2]s/...
Run it:     REDIS_URL=redis://127.0.0.1:6390 go run ./services/%[2]s/cmd/%[2]s    (beside `+"`make run`"+`)
Remove it:  make remove-service NAME=%[2]s
`, w.Handle, s.Name)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.From, "from", "", "the channel it reads, such as raw_input (required)")
	f.StringVar(&s.To, "to", "", "the channel it publishes on (default: none)")
	f.StringVar(&s.Root, "root", ".", "folder of the repository")
	return cmd
}

func (t *tool) removeService() *cobra.Command {
	s := newservice.Spec{}
	cmd := &cobra.Command{
		Use:   "remove-service NAME",
		Short: "Remove a service that new-service wrote",
		Long: `remove-service deletes services/NAME from the repository, and the service's lines in docker-compose.yml, in
Prometheus' targets and in the chart's values. If --redis, REDIS_URL or REDIS_HOST names a Redis, it retires the
service's consumer group there first, and refuses while a process of the service is alive. Otherwise it says
how to retire the group.`,
		Example: `  milepostctl --redis redis://127.0.0.1:6390 remove-service tide`,
		Args:    needs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s.Name = args[0]
			channel, err := newservice.Channel(s)
			if err != nil {
				return refused(err)
			}
			group := fmt.Sprintf("Retire its group, or entries are kept for it:\n  milepostctl group retire %s %s",
				cmp.Or(channel, "CHANNEL"), s.Name)
			if channel != "" && (t.redisURL != "" || t.Getenv("REDIS_URL") != "" || t.Getenv("REDIS_HOST") != "") {
				err := t.with(cmd.Context(), func(ctx context.Context, p pipeline) error {
					return p.Retire(ctx, channel, s.Name)
				})
				switch {
				case errors.Is(err, stage.ErrNotFound):
					group = fmt.Sprintf("%s had no group %s.", channel, s.Name)
				case err != nil:
					return fmt.Errorf("nothing is removed: retire group %s of %s: %w", s.Name, channel, err)
				default:
					group = fmt.Sprintf("Retired group %s of %s.", s.Name, channel)
				}
			}
			w, err := newservice.Remove(s)
			if err != nil {
				return refused(err)
			}
			return t.told(fmt.Sprintf("Removed %s, and its lines in:\n  %s\n%s", w.Files[0], strings.Join(w.Changed, "\n  "), group),
				map[string]any{"service": s.Name, "files": w.Files, "changed": w.Changed, "channel": channel}, nil)
		},
	}
	cmd.Flags().StringVar(&s.Root, "root", ".", "folder of the repository")
	return cmd
}

// refused makes a refusal of newservice wrong usage.
func refused(err error) error {
	var r newservice.Refusal
	if errors.As(err, &r) {
		return usage(r)
	}
	return err
}
