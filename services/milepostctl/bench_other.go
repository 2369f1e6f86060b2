//go:build !linux

package milepostctl

import (
	"errors"

	"github.com/spf13/cobra"
)

func (t *tool) bench() *cobra.Command {
	return &cobra.Command{
		Use:   "bench",
		Short: "Measure the pipeline's programs on this machine (Linux only)",
		RunE: func(*cobra.Command, []string) error {
			return errors.New("bench needs Linux, whose /proc tells the CPU time of each process")
		},
		DisableFlagParsing: true,
	}
}
