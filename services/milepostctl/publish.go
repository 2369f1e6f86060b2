package milepostctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage"
)

// maxPayload is the most that publish reads from its input, in bytes. Redis itself takes 512 MB.
const maxPayload = 1 << 20

func (t *tool) publish() *cobra.Command {
	var s stage.Submission
	var force bool
	cmd := &cobra.Command{
		Use:   "publish CHANNEL PAYLOAD",
		Short: "Publish an event: kept for the stages, and live on the channel",
		Long: `publish does what the pipeline itself does: one script keeps the payload in the channel's stream and
publishes the same bytes on the channel. It prints the event ID, which the event keeps on its way.

A PAYLOAD of - is read from standard input, without its last line break. publish refuses a channel that
no stage or publisher names, and on the application's channels a payload that its stages cannot decode.
With --force it publishes such a payload all the same: it becomes a dead letter of each stage.`,
		Example: `  milepostctl publish raw_input '{"email":"ada@example.com","lat":"40.7128","long":"-74.0060"}'
  milepostctl publish user:email ada@example.com
  milepostctl publish raw_input - --key order-4711 < payload.json`,
		Args: needs("CHANNEL", "PAYLOAD"),
		RunE: func(cmd *cobra.Command, args []string) error {
			channel, body := args[0], []byte(args[1])
			if s.ID != "" && s.Key != "" {
				return usage("--id and --key: the ID of an event with a key is computed")
			}
			if s.ID != "" {
				if _, err := uuid.Parse(s.ID); err != nil {
					return usage(fmt.Sprintf("--id: %q is not a UUID", s.ID))
				}
			}
			if args[1] == "-" {
				read, err := io.ReadAll(io.LimitReader(t.In, maxPayload+1))
				if err != nil {
					return fmt.Errorf("read payload: %w", err)
				}
				if len(read) > maxPayload {
					return fmt.Errorf("the payload is larger than %d bytes", maxPayload)
				}
				body = []byte(strings.TrimSuffix(strings.TrimSuffix(string(read), "\n"), "\r"))
			}
			if err := decodable(channel, body); err != nil && !force {
				return fmt.Errorf("no stage on %s can decode this payload: %w; --force publishes it all the same", channel, err)
			}
			s.Body, s.Digest = body, string(body)
			return t.open(cmd.Context(), func(ctx context.Context, p pipeline) error {
				if err := p.channel(ctx, channel); errors.Is(err, stage.ErrNotFound) && !force {
					return fmt.Errorf("%w (--force publishes all the same)", err)
				}
				publisher := p.Publisher("milepostctl", channel)
				receipt, err := publisher.Publish(ctx, s)
				if err = errors.Join(err, publisher.Close()); err != nil {
					return fmt.Errorf("publish on %s: %w", visible(channel), err)
				}
				if receipt.Repeat && t.output != "json" {
					fmt.Fprintln(t.Err, "the key was used before: nothing was published; this is the first event's ID")
				}
				return t.told(receipt.ID, map[string]any{"id": receipt.ID, "channel": channel, "repeat": receipt.Repeat})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.ID, "id", "", "event ID, a UUID (default: a new one, or computed from --key and the payload)")
	f.StringVar(&s.Key, "key", "", "idempotency key: a second publish with it within 24 h publishes nothing")
	f.BoolVar(&s.Track, "track", false, "let the event's progress be watched for an hour")
	f.BoolVar(&force, "force", false, "publish on an unknown channel, or a payload that no stage can decode")
	return cmd
}

// decodable is why a stage of the application cannot decode the payload. Other channels take
// anything.
func decodable(channel string, body []byte) error {
	decode := func(v interface{ Validate() error }) error {
		if err := json.Unmarshal(body, v); err != nil {
			return err
		}
		return v.Validate()
	}
	switch channel {
	case event.RawInput:
		return decode(&event.Submission{})
	case event.CalculatedDistance:
		return decode(&event.Result{})
	case event.UserEmail:
		return event.Address(body).Validate()
	}
	return nil
}
