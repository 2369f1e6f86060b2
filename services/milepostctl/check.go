package milepostctl

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/milepost/milepost/pkg/event"
)

// checkPause is how long check waits before it tries again.
const checkPause = 500 * time.Millisecond

func (t *tool) check() *cobra.Command {
	var base string
	var within time.Duration
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Submit a place and wait for its email",
		Long: `check tells whether the pipeline works from end to end: it submits a place through the page's door and waits until
the stream email:sent has its email. What does not answer yet is tried again, with the same idempotency key, until --within
is over. The log gets one line, of an address at example.com.`,
		Example: `  milepostctl --redis redis://127.0.0.1:6390 check
  milepostctl check --url http://milepost-web-api:8000 --within 2m`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkURL(base); err != nil {
				return err
			}
			if within <= 0 {
				return usage("--within must be more than 0")
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), within)
			defer cancel()
			return t.through(ctx, strings.TrimRight(base, "/"))
		},
	}
	f := cmd.Flags()
	f.StringVar(&base, "url", "http://127.0.0.1:8000", "where the page is")
	f.DurationVar(&within, "within", time.Minute, "how long to try")
	return cmd
}

// passing is a submission on its way.
type passing struct {
	client   *http.Client
	url      string
	key      string // idempotency key
	rdb      *redis.Client
	after    string // the last entry of email:sent that is not its email
	id       string // of the event, once it is accepted
	accepted time.Time
}

// through submits until a submission is accepted, then waits for its email, until ctx ends.
func (t *tool) through(ctx context.Context, base string) error {
	options := *t.options
	options.DialTimeout, options.MaxRetries, options.DialerRetries = t.timeout, -1, 1
	p := passing{client: newClient(1, t.timeout), url: base + "/distance", key: "check-" + rand.Text(), rdb: redis.NewClient(&options)}
	defer p.client.CloseIdleConnections()
	defer func() { _ = p.rdb.Close() }() // nothing was written
	for {
		emailed, err := p.step(ctx)
		switch {
		case emailed:
			if t.output == "json" {
				return t.json(struct {
					ID      string  `json:"id"`
					Seconds float64 `json:"seconds"`
				}{p.id, time.Since(p.accepted).Seconds()})
			}
			_, err = fmt.Fprintf(t.Out, "%s was emailed %s after it was accepted\n", p.id, time.Since(p.accepted).Round(time.Millisecond))
			return err
		case ctx.Err() == nil && err != nil:
			fmt.Fprintf(t.Err, "%v; trying again\n", err)
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			return fmt.Errorf("the time is over: %w", cmp.Or(err, fmt.Errorf("no email for event %s; `milepostctl find %[1]s` shows where it is", p.id)))
		case <-time.After(checkPause):
		}
	}
}

// step does what comes next. Its error says why it could not be done yet.
func (p *passing) step(ctx context.Context) (emailed bool, err error) {
	if p.after == "" {
		if p.after, err = lastEntry(ctx, p.rdb); err != nil {
			p.after = ""
			return false, fmt.Errorf("end of %s: %w", event.EmailSent, err)
		}
	}
	if p.id == "" {
		header := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}, "Idempotency-Key": {p.key}}
		body := fmt.Sprintf(`{"email":"%s@example.com","lat":"40.7128","long":"-74.0060"}`, strings.ToLower(p.key))
		answer, status := send(ctx, p.client, http.MethodPost, p.url, header, body)
		var created struct{ ID string }
		if status != "201" || json.Unmarshal(answer, &created) != nil || created.ID == "" {
			return false, fmt.Errorf("submit at %s: %s", p.url, status)
		}
		p.id, p.accepted = created.ID, time.Now()
	}
	got, err := p.rdb.XRead(ctx, &redis.XReadArgs{Streams: []string{event.EmailSent, p.after}, Count: 1000, Block: checkPause}).Result()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", event.EmailSent, err)
	}
	for _, e := range got[0].Messages {
		p.after = e.ID
		var sent event.Sent
		if text, _ := e.Values["payload"].(string); json.Unmarshal([]byte(text), &sent) == nil && sent.ID == p.id {
			return true, nil
		}
	}
	return false, nil
}
