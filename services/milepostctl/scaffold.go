package milepostctl

import (
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/milepost/milepost/services/milepostctl/newservice"
)

func (t *tool) newService() *cobra.Command {
	s := newservice.Spec{}
	cmd := &cobra.Command{
		Use:   "new-service NAME",
		Short: "Write a service that joins the pipeline",
		Long: `new-service writes services/NAME in the repository: a package with a handler, a main and a test, which reads the channel
--from in a consumer group of its own and publishes on --to. It works at once; what it does is for you to write. It adds
lines to docker-compose.yml, its Prometheus' targets and the chart's values. No other service
changes.`,
		Example: `  milepostctl new-service tide --from raw_input --to tides`,
		Args:    needs("NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			s.Name = args[0]
			left, err := newservice.Write(s)
			if err != nil {
				return err
			}
			if t.output == "json" {
				return t.json(map[string]any{"service": s.Name, "folder": "services/" + s.Name, "left": left})
			}
			fmt.Fprintf(t.Out, "services/%[1]s is written. Beside `make run`, start it with\n\n  REDIS_URL=redis://127.0.0.1:6390 go run ./services/%[1]s/cmd/%[1]s\n", s.Name)
			for _, path := range slices.Sorted(maps.Keys(left)) {
				fmt.Fprintf(t.Out, "\n%s has no line %q; for it:\n\n%s", path, newservice.Mark, left[path])
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.From, "from", "", "the channel it reads, such as raw_input")
	f.StringVar(&s.To, "to", "", "the channel it publishes on (default: none)")
	f.StringVar(&s.Root, "root", ".", "the repository")
	_ = cmd.MarkFlagRequired("from") // it is a flag
	return cmd
}
