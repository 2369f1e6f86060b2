package milepostctl

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage"
)

func (t *tool) listen() *cobra.Command {
	var count int
	var force bool
	cmd := &cobra.Command{
		Use:   "listen [CHANNEL...]",
		Short: "Show the messages on the channels, live",
		Long: `listen subscribes to the channels, by default to those of the application, and shows each message as it
comes. It takes nothing away from the stages. Like any subscriber it sees only what is published while
it listens.`,
		Example: `  milepostctl listen
  milepostctl listen calculated_distance --output json | jq -r .payload
  milepostctl listen email:sent --count 1`,
		RunE: func(cmd *cobra.Command, names []string) error {
			if count < 0 {
				return usage(fmt.Sprintf("--count must be at least 0; it is %d", count))
			}
			if len(names) == 0 {
				names = event.Channels()
			}
			return t.open(cmd.Context(), func(ctx context.Context, p pipeline) (err error) {
				for try := 0; try < 10 && !force; try++ { // a stage that is just starting names its channels a moment later
					if err = p.channel(ctx, names...); !errors.Is(err, stage.ErrNotFound) || !pause(ctx, 200*time.Millisecond) {
						break
					}
				}
				if errors.Is(err, stage.ErrNotFound) {
					return fmt.Errorf("%w (--force listens all the same)", err)
				}
				if err != nil {
					return err
				}
				return t.follow(ctx, p.Link().Client(), names, count)
			})
		},
	}
	cmd.Flags().IntVarP(&count, "count", "n", 0, "end after this many messages (0: go on until interrupted)")
	cmd.Flags().BoolVar(&force, "force", false, "listen to channels that no stage or publisher names")
	return cmd
}

// follow shows count messages, or all until ctx ends. If Redis goes away meanwhile, it waits for
// it.
func (t *tool) follow(ctx context.Context, client *redis.Client, names []string, count int) error {
	sub := client.Subscribe(ctx)
	defer func() { _ = sub.Close() }()
	width, full := 0, make([]string, len(names))
	for i, n := range names {
		full[i] = t.prefix + n
		width = max(width, len(n))
	}
	if err := sub.Subscribe(ctx, full...); err != nil {
		return fmt.Errorf("listen: %w: %w", stage.ErrUnavailable, err)
	}
	// By default a message is dropped if the output takes none for a minute.
	news := sub.ChannelWithSubscriptions(redis.WithChannelSendTimeout(24 * time.Hour))
	again := ""
	for confirmed, shown := 0, 0; count == 0 || shown < count; {
		var got any
		select {
		case <-ctx.Done():
			return nil // interrupted: the usual end
		case got = <-news:
		}
		switch m := got.(type) {
		case *redis.Subscription: // one for each channel, and again after Redis was away
			if confirmed++; confirmed%len(names) == 0 {
				fmt.Fprintf(t.Err, "listening on %s%s\n", strings.Join(names, ", "), again)
				again = " again; messages published while Redis was away were not shown"
			}
		case *redis.Message:
			shown++
			m.Channel = strings.TrimPrefix(m.Channel, t.prefix)
			if err := t.show(m, width); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *tool) show(m *redis.Message, width int) error {
	now := time.Now()
	if t.output == "json" {
		return t.json(struct {
			At      time.Time `json:"at"`
			Channel string    `json:"channel"`
			payload
		}{now, m.Channel, payloadOf([]byte(m.Payload))})
	}
	_, err := fmt.Fprintf(t.Out, "%s  %-*s  %s\n", now.Format("15:04:05.000"), width, m.Channel, visible(m.Payload))
	return err
}
