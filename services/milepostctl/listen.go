package milepostctl

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/milepost/milepost/pkg/stage"
)

func (t *tool) listen() *cobra.Command {
	var count int
	cmd := &cobra.Command{
		Use:   "listen [CHANNEL...]",
		Short: "Show what travels on the channels, live",
		Long: `listen subscribes to the channels, to all of the application's if none is named, and shows each message as it comes.
It takes nothing away from the stages, and like any subscriber it sees only what is published while it listens.`,
		Example: `  milepostctl listen
  milepostctl listen calculated_distance --output json | jq -r .payload
  milepostctl listen email:sent --count 1`,
		ValidArgsFunction: t.completeChannels,
		RunE: func(cmd *cobra.Command, names []string) error {
			if len(names) == 0 {
				names = channels
			}
			if count < 0 {
				return usage(fmt.Sprintf("--count: %d is less than 0", count))
			}
			return t.follow(cmd.Context(), names, count)
		},
	}
	cmd.Flags().IntVarP(&count, "count", "n", 0, "end after this many messages (0: go on until interrupted)")
	return cmd
}

// follow writes count messages, or all until ctx ends. Once it has listened, it waits for a Redis that goes away.
func (t *tool) follow(ctx context.Context, names []string, count int) error {
	options := *t.options
	options.DialTimeout, options.MaxRetries, options.DialerRetries = t.timeout, -1, 1
	client := redis.NewClient(&options)
	defer func() { _ = client.Close() }() // nothing was written
	sub := client.Subscribe(ctx)
	defer func() { _ = sub.Close() }()
	defer context.AfterFunc(ctx, func() { _ = sub.Close() })() // a blocked read does not heed ctx

	if err := sub.Subscribe(ctx, names...); err != nil {
		return fmt.Errorf("listen: %w: %w", stage.ErrUnavailable, err)
	}
	width := 0
	for _, n := range names {
		width = max(width, len(n))
	}
	away, listened := false, false
	confirmed := 0
	for shown := 0; count == 0 || shown < count; {
		got, err := sub.ReceiveTimeout(ctx, time.Minute)
		switch m := got.(type) {
		case *redis.Subscription:
			if confirmed++; confirmed < len(names) {
				continue
			}
			confirmed, listened, away = 0, true, false
			fmt.Fprintf(t.Err, "listening on %s\n", strings.Join(names, ", "))
			continue
		case *redis.Message:
			shown++
			if err := t.show(m, width); err != nil {
				return err
			}
			continue
		}
		switch {
		case ctx.Err() != nil:
			return nil // interrupted: that is how listening ends
		case err == nil: // a pong
		case isTimeout(err): // silence; find out whether anybody is there
			if err := sub.Ping(ctx); err != nil {
				fmt.Fprintf(t.Err, "redis is away: %v\n", err)
			}
		case !listened:
			return fmt.Errorf("listen: %w: %w", stage.ErrUnavailable, err)
		default: // the next receive connects again
			if !away {
				fmt.Fprintf(t.Err, "redis is away: %v; what is published meanwhile is not shown\n", err)
			}
			away, confirmed = true, 0
			select {
			case <-ctx.Done():
			case <-time.After(500 * time.Millisecond):
			}
		}
	}
	return nil
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
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
