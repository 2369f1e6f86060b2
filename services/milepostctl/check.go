package milepostctl

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

const checkPause = 500 * time.Millisecond

func (t *tool) check() *cobra.Command {
	var base string
	var within time.Duration
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Submit a place and wait for its email",
		Long: `check tests the pipeline from end to end: it submits a place at --url and waits until the stream email:sent
has its email. While Redis does not answer or web-api does not accept it, check tries again, with the same
idempotency key. The log gets one line, for an address at example.com.`,
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
			return t.open(ctx, func(ctx context.Context, p pipeline) error {
				return t.through(ctx, p, strings.TrimRight(base, "/")+"/distance")
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&base, "url", "http://127.0.0.1:8000", "where the page is")
	f.DurationVar(&within, "within", time.Minute, "how long to try")
	return cmd
}

// through submits until a submission is accepted, then waits for its email, until ctx ends.
func (t *tool) through(ctx context.Context, p pipeline, url string) error {
	var emails *inspect.Tail
	// In Kubernetes, policies let a new pod connect only after a moment.
	err := t.again(ctx, func() (err error) {
		if emails, err = p.Tail(ctx, event.EmailSent); err != nil {
			return fmt.Errorf("end of %s: %w", event.EmailSent, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	key, id := "check-"+rand.Text(), ""
	err = t.again(ctx, func() (err error) {
		id, err = t.submit(ctx, url, key)
		return err
	})
	if err != nil {
		return err
	}
	accepted := time.Now()
	// web-api tracks the event in its Redis, by the script that keeps it.
	if _, err := p.Progress(ctx, id); errors.Is(err, stage.ErrNotFound) {
		return fmt.Errorf("%s accepted event %s, but uses another Redis than %s", url, id, t.where())
	}
	for {
		news, err := emails.Next(ctx, id, min(checkPause, t.timeout/2))
		if err != nil && !pause(ctx, checkPause/10) {
			return interrupted(ctx, fmt.Errorf("no email for event %s; `%s find %[1]s` shows where it is", id, t.called()))
		}
		for _, text := range news {
			var sent event.Sent
			if json.Unmarshal([]byte(text), &sent) == nil && sent.ID == id {
				took := time.Since(accepted)
				return t.told(fmt.Sprintf("%s was emailed %s after it was accepted", id, took.Round(time.Millisecond)),
					map[string]any{"id": id, "seconds": took.Seconds()})
			}
		}
	}
}

// again calls try until it succeeds or ctx ends. It says each new reason once.
func (t *tool) again(ctx context.Context, try func() error) (err error) {
	for said := ""; ; {
		failed := try()
		if failed == nil {
			return nil
		}
		if err == nil || ctx.Err() == nil { // else only the time ended it; err has the reason
			err = failed
		}
		if text := err.Error(); text != said && ctx.Err() == nil {
			said = text
			fmt.Fprintf(t.Err, "%s; trying again\n", text)
		}
		if !pause(ctx, checkPause) {
			return interrupted(ctx, err)
		}
	}
}

// interrupted is the error of a command whose ctx ended, because of the time or of a person.
func interrupted(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return fmt.Errorf("the time is over: %w", cmp.Or(err, ctx.Err()))
}

func (t *tool) submit(ctx context.Context, url, key string) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	body := fmt.Sprintf(`{"email":"%s@example.com","lat":"40.7128","long":"-74.0060","track":true}`, strings.ToLower(key))
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	r.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}, "Idempotency-Key": {key}}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", fmt.Errorf("submit: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	var created struct{ ID string }
	if answer.StatusCode != http.StatusCreated || err != nil || json.Unmarshal(text, &created) != nil || created.ID == "" {
		return "", fmt.Errorf("submit at %s: %s", url, answer.Status)
	}
	return created.ID, nil
}
