package milepostctl

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/stage"
)

func (t *tool) loadPipeline() *cobra.Command {
	l := load{}
	var base, log string
	var patience time.Duration
	cmd := &cobra.Command{
		Use:   "pipeline",
		Short: "Submit through the page's door and count what comes out at the end",
		Long: `pipeline submits places, each under an address of its own at example.com, and reads the stream email:sent until all
that were accepted have come out, or nothing comes any more for --patience. It prints how the submissions were answered,
how long they took from being sent to being emailed, and how many were lost or came out twice. With --log it counts the
lines of the log, too.

Start web-api with RATE_LIMIT=off first, and give the pipeline's Redis by --redis or REDIS_URL.`,
		Example: `  milepostctl --redis redis://127.0.0.1:6390 load pipeline --requests 1000
  milepostctl --redis redis://127.0.0.1:6390 load pipeline --rate 500 --duration 20s --log sent_emails`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := l.check(); err != nil {
				return err
			}
			if err := checkURL(base); err != nil {
				return err
			}
			if patience <= 0 {
				return usage("--patience must be more than 0")
			}
			p := passage{sent: map[string]time.Time{}, came: map[string][]time.Time{}}
			m, err := t.submit(cmd.Context(), l, base, patience, &p)
			if err != nil {
				return err
			}
			r := p.result()
			if log != "" {
				if r.Lines, err = p.lines(log); err != nil {
					return err
				}
			}
			return t.passage(m, r)
		},
	}
	l.flags(cmd, 1000, 20)
	f := cmd.Flags()
	f.StringVar(&base, "url", "http://127.0.0.1:8000", "where the page is")
	f.StringVar(&log, "log", "", "the log of sent emails, to count its lines")
	f.DurationVar(&patience, "patience", 30*time.Second, "give up when nothing has come out for this long")
	return cmd
}

// passage is what went in and what came out.
type passage struct {
	name string // of this run, in its addresses

	mu   sync.Mutex
	sent map[string]time.Time   // when each accepted event's request began, by event ID
	came map[string][]time.Time // when it came out
	last time.Time              // something came out
}

// submit sends the load, and follows the end of the pipeline until all of it is through.
func (t *tool) submit(ctx context.Context, l load, base string, patience time.Duration, p *passage) (measured, error) {
	options := *t.options
	options.DialTimeout, options.MaxRetries, options.DialerRetries = t.timeout, -1, 1
	rdb := redis.NewClient(&options)
	defer func() { _ = rdb.Close() }() // nothing was written
	after, err := lastEntry(ctx, rdb)
	if err != nil {
		return measured{}, fmt.Errorf("end of %s: %w: %w", event.EmailSent, stage.ErrUnavailable, err)
	}
	following, stop := context.WithCancel(ctx)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		p.follow(following, rdb, after)
	}()
	defer func() { stop(); <-followed }()

	p.name = strings.ToLower(rand.Text()[:8])
	client := newClient(l.concurrency, t.timeout)
	defer client.CloseIdleConnections()
	header := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}}
	bar := t.bar(l.requests, "requests")
	m := l.run(ctx, func(ctx context.Context, n int) string {
		begin := time.Now()
		body := fmt.Sprintf(`{"email":"load-%s-%d@example.com","lat":"%.4f","long":"%.4f"}`, p.name, n, float64(n%1600)/10-80, float64(n%3500)/10-175)
		answer, status := send(ctx, client, http.MethodPost, strings.TrimRight(base, "/")+"/distance", header, body)
		var created struct{ ID string }
		if status == "201" && json.Unmarshal(answer, &created) == nil && created.ID != "" {
			p.mu.Lock()
			p.sent[created.ID] = begin
			p.mu.Unlock()
		}
		return status
	}, func() { _ = bar.Add(1) })
	_ = bar.Finish()

	p.mu.Lock()
	p.last = time.Now()
	p.mu.Unlock()
	for {
		p.mu.Lock()
		left := false
		for id := range p.sent {
			if left = len(p.came[id]) == 0; left {
				break
			}
		}
		quiet := time.Since(p.last)
		p.mu.Unlock()
		if !left || quiet > patience {
			return m, nil
		}
		select {
		case <-ctx.Done():
			return m, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// lastEntry is the ID of the newest entry of email:sent.
func lastEntry(ctx context.Context, rdb *redis.Client) (string, error) {
	last, err := rdb.XRevRangeN(ctx, event.EmailSent, "+", "-", 1).Result()
	if err != nil || len(last) == 0 {
		return "0", err
	}
	return last[0].ID, nil
}

// follow notes what comes out after the entry until ctx ends. It reads the stream, which keeps 10,000 entries and loses
// nothing to a slow reader before that.
func (p *passage) follow(ctx context.Context, rdb *redis.Client, after string) {
	for ctx.Err() == nil {
		got, err := rdb.XRead(ctx, &redis.XReadArgs{Streams: []string{event.EmailSent, after}, Count: 1000, Block: 100 * time.Millisecond}).Result()
		if err != nil {
			if !errors.Is(err, redis.Nil) { // away for a moment; what comes meanwhile is kept
				select {
				case <-ctx.Done():
				case <-time.After(100 * time.Millisecond):
				}
			}
			continue
		}
		now := time.Now()
		p.mu.Lock()
		for _, e := range got[0].Messages {
			after = e.ID
			var sent event.Sent
			text, _ := e.Values["payload"].(string)
			if json.Unmarshal([]byte(text), &sent) == nil {
				p.came[sent.ID] = append(p.came[sent.ID], now)
				p.last = now
			}
		}
		p.mu.Unlock()
	}
}

// passed is the result, for JSON.
type passed struct {
	Accepted int            `json:"accepted"`
	Emailed  int            `json:"emailed"`
	Lost     int            `json:"lost"`
	Doubled  int            `json:"doubled"`
	Latency  latency        `json:"end_to_end_seconds"`
	Lines    map[string]int `json:"log,omitempty"` // how many addresses have no line, one, or more
}

func (p *passage) result() passed {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := passed{Accepted: len(p.sent)}
	var times []time.Duration
	for id, begin := range p.sent {
		switch n := len(p.came[id]); {
		case n == 0:
			r.Lost++
			continue
		case n > 1:
			r.Doubled++
		}
		r.Emailed++
		times = append(times, p.came[id][0].Sub(begin))
	}
	slices.Sort(times)
	r.Latency = latencyOf(times)
	return r
}

// lines counts this run's addresses in the log. A submission that was not answered 201 may have a line, too.
func (p *passage) lines(path string) (map[string]int, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--log: %w", err)
	}
	defer f.Close()
	address := regexp.MustCompile(`Email sent to: (load-` + p.name + `-\d+@example\.com);`)
	found := map[string]int{}
	scanner := bufio.NewScanner(f)
	for scanner.Scan() {
		if m := address.FindStringSubmatch(scanner.Text()); m != nil {
			found[m[1]]++
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	count := map[string]int{"once": 0, "more than once": 0}
	for _, n := range found {
		if n == 1 {
			count["once"]++
		} else {
			count["more than once"]++
		}
	}
	return count, nil
}

func (t *tool) passage(m measured, r passed) error {
	var err error
	if t.output == "json" {
		err = t.json(struct {
			summary
			passed
		}{m.summary(), r})
	} else if err = m.write(t.Out); err == nil {
		_, err = fmt.Fprintf(t.Out, "accepted    %d\nemailed     %d, lost %d, doubled %d\nend to end  %s\n", r.Accepted, r.Emailed, r.Lost, r.Doubled, r.Latency)
		if r.Lines != nil && err == nil {
			_, err = fmt.Fprintf(t.Out, "log         %s\n", counted(r.Lines))
		}
	}
	if err == nil && r.Lost+r.Doubled > 0 {
		err = fmt.Errorf("%d lost, %d doubled", r.Lost, r.Doubled)
	}
	return err
}
