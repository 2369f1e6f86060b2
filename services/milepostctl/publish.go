package milepostctl

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

// maxPayload is what publish reads from its input at most; Redis itself takes 512 MB.
const maxPayload = 1 << 20

func (t *tool) publish() *cobra.Command {
	var s stage.Submission
	var force bool
	cmd := &cobra.Command{
		Use:   "publish CHANNEL PAYLOAD",
		Short: "Publish an event: kept for the stages, and live on the channel",
		Long: `publish does what the pipeline itself does: one script keeps the payload in the channel's stream and publishes the
same bytes on the channel. It prints the event ID, by which the event is known on its whole way.

A PAYLOAD of - is read from standard input, less its last line break. On the channels of the application a payload that no
stage could work with is refused, unless --force is given: then it becomes a dead letter of each stage that reads it.`,
		Example: `  milepostctl publish raw_input '{"email":"ada@example.com","lat":"40.7128","long":"-74.0060"}'
  milepostctl publish user:email ada@example.com
  milepostctl publish raw_input - --key order-4711 < payload.json`,
		Args: needs("CHANNEL", "PAYLOAD"),
		RunE: func(cmd *cobra.Command, args []string) error {
			channel, body := args[0], []byte(args[1])
			if args[1] == "-" {
				read, err := io.ReadAll(io.LimitReader(t.In, maxPayload+1))
				if err != nil {
					return fmt.Errorf("read payload: %w", err)
				}
				if len(read) > maxPayload {
					return fmt.Errorf("the payload has over %d bytes", maxPayload)
				}
				body = []byte(strings.TrimSuffix(strings.TrimSuffix(string(read), "\n"), "\r"))
			}
			if err := check(channel, body); err != nil && !force {
				return fmt.Errorf("no stage on %s could work with this payload: %w; --force publishes it all the same", channel, err)
			}
			s.Body, s.Digest = body, string(body)
			return t.with(cmd.Context(), func(ctx context.Context, b *stage.Broker) error {
				p := b.Publisher("milepostctl", channel)
				receipt, err := p.Publish(ctx, s)
				if closed := p.Close(); err == nil {
					err = closed
				}
				if err == nil { // the tool is not part of the pipeline, though status would show it as a publisher
					err = inspect.New(b).Withdraw(ctx, "milepostctl")
				}
				if err != nil {
					return fmt.Errorf("publish on %s: %w", channel, err)
				}
				if t.output == "json" {
					return t.json(struct {
						ID      string `json:"id"`
						Channel string `json:"channel"`
						Repeat  bool   `json:"repeat"`
					}{receipt.ID, channel, receipt.Repeat})
				}
				if receipt.Repeat {
					fmt.Fprintln(t.Err, "the key was used before; nothing was published, this is the first one's ID")
				}
				_, err = fmt.Fprintln(t.Out, receipt.ID)
				return err
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.ID, "id", "", "event ID, a UUID (default: a new one)")
	f.StringVar(&s.Key, "key", "", "idempotency key: a second publish with it within 24 h publishes nothing")
	f.BoolVar(&s.Track, "track", false, "let the event's progress be watched for an hour")
	f.BoolVar(&force, "force", false, "publish a payload that no stage can work with")
	return cmd
}

// check tells whether a stage could read the payload. A channel that is not the application's takes anything.
func check(channel string, body []byte) error {
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
