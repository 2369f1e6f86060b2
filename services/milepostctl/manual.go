package milepostctl

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/milepost/milepost/pkg/program"
)

func (t *tool) manual() *cobra.Command {
	return &cobra.Command{
		Use:   "manual FOLDER",
		Short: "Write man pages and shell completions",
		Long: `manual writes a man page of each command and the completions of bash, zsh, fish and PowerShell into FOLDER,
which it makes if needed. A package or an image copies them to where the system looks for them.`,
		Example: "  milepostctl manual dist/manual && man dist/manual/milepostctl-dead-replay.1",
		Args:    needs("FOLDER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			root, dir := cmd.Root(), args[0]
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			root.DisableAutoGenTag = true // the same version writes the same pages
			header := &doc.GenManHeader{Section: "1", Source: "Milepost " + program.FullVersion(), Manual: "Milepost"}
			if err := doc.GenManTree(root, header, dir); err != nil {
				return fmt.Errorf("man pages: %w", err)
			}
			for name, write := range map[string]func(string) error{
				"milepostctl.bash": func(path string) error { return root.GenBashCompletionFileV2(path, true) },
				"_milepostctl":     root.GenZshCompletionFile,
				"milepostctl.fish": func(path string) error { return root.GenFishCompletionFile(path, true) },
				"milepostctl.ps1":  root.GenPowerShellCompletionFileWithDesc,
			} {
				if err := write(filepath.Join(dir, name)); err != nil {
					return fmt.Errorf("completion %s: %w", name, err)
				}
			}
			return t.told("wrote man pages and completions to "+dir, map[string]string{"folder": dir})
		},
	}
}
