package milepostctl

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/milepost/milepost/pkg/operate"
)

func (t *tool) deadExport() *cobra.Command {
	var f filter
	cmd := &cobra.Command{
		Use:   "export [CHANNEL...]",
		Short: "Write dead letters with their payloads as JSON, one object a line",
		Long: `export writes the dead letters of all channels or of the named ones to standard output. It removes none. import
reads what export wrote. The payloads hold addresses: keep the file as safe as the store.`,
		Example: `  milepostctl dead export > letters.jsonl
  milepostctl dead export user:email --until 720h > old.jsonl`,
		RunE: func(cmd *cobra.Command, names []string) error {
			t.output = "json"
			return t.open(cmd.Context(), func(ctx context.Context, p pipeline) error {
				return t.listLetters(ctx, p, names, f, 0)
			})
		},
	}
	f.flags(cmd)
	return cmd
}

func (t *tool) deadImport() *cobra.Command {
	return &cobra.Command{
		Use:   "import",
		Short: "Read dead letters from standard input that export wrote",
		Long: `import adds dead letters, which replay can then give back to their stages. A letter gets a new entry ID and
is as old as its import. import leaves out a letter whose event is a dead letter of the same group already,
so it can be repeated. A line that is no dead letter ends it; the lines before are imported.`,
		Example: `  milepostctl dead import < letters.jsonl`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.open(cmd.Context(), t.importLetters)
		},
	}
}

// mark is what two copies of a dead letter have in common.
type mark struct{ channel, group, id string }

func (t *tool) importLetters(ctx context.Context, p pipeline) error {
	have := map[mark]bool{}
	var asked []string // the channels whose dead letters are in have
	read, added := 0, 0
	in := json.NewDecoder(bufio.NewReader(t.In))
	for {
		var l letter
		err := in.Decode(&l)
		if errors.Is(err, io.EOF) {
			break
		}
		read++
		if err == nil && (l.Channel == "" || l.Group == "" || l.ID == "") {
			err = errors.New("channel, group or id is missing")
		}
		if err != nil {
			return fmt.Errorf("dead letter %d of the input: %w; %s imported", read, err, operate.Plural(added, "dead letter", "dead letters"))
		}
		if !slices.Contains(asked, l.Channel) {
			for d, err := range p.letters(ctx, filter{}, l.Channel) {
				if err != nil {
					return err
				}
				have[mark{d.Channel, d.Group, d.ID}] = true
			}
			asked = append(asked, l.Channel)
		}
		m := mark{l.Channel, l.Group, l.ID}
		if have[m] {
			continue
		}
		if l.Payload = l.Bytes; l.Bytes == nil {
			l.Payload = []byte(l.Text)
		}
		if err := p.Restore(ctx, l.DeadLetter); err != nil {
			return fmt.Errorf("after %s: %w", operate.Plural(added, "dead letter", "dead letters"), err)
		}
		have[m] = true
		added++
	}
	return t.told(fmt.Sprintf("imported %s; %d were there already", operate.Plural(added, "dead letter", "dead letters"), read-added),
		map[string]int{"imported": added, "present": read - added})
}
