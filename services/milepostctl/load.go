package milepostctl

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	vegeta "github.com/tsenart/vegeta/v12/lib"
)

type load struct {
	url, method, body string
	header            http.Header

	requests    int
	duration    time.Duration // 0: until all requests are sent
	concurrency int
	rate        int // requests a second; 0: as fast as they are answered
}

func (t *tool) load() *cobra.Command {
	var l load
	var headers []string
	cmd := &cobra.Command{
		Use:   "load URL",
		Short: "Send many requests and measure the answers",
		Long: `load sends --requests requests, or as many as fit into --duration: --concurrency at a time, or --rate a
second. It prints vegeta's report: the total time, the mean and the percentiles of the time per request, and
how many requests ended with which status, 0 for none. {n} in the URL and in --data becomes the number of
the request, from 0.

web-api limits requests: start it with RATE_LIMIT=off to measure it.`,
		Example: `  milepostctl load http://127.0.0.1:8000/ --requests 1000 --concurrency 20
  milepostctl load "http://127.0.0.1:8002/api/weather?lat=32.08&long=34.86" --rate 500 --duration 10s --output json
  milepostctl load http://127.0.0.1:8000/distance -X POST -H "Content-Type: application/json" -H "Accept: application/json" -d '{"email":"load-{n}@example.com","lat":"40.7128","long":"-74.0060"}'`,
		Args: needs("URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			l.url, l.header = args[0], http.Header{}
			if f := cmd.Flags(); f.Changed("rate") && f.Changed("concurrency") {
				return usage("choose --rate or --concurrency: with --rate as many requests are under way as it takes")
			} else if l.duration > 0 && !f.Changed("requests") {
				l.requests = 0
			}
			for _, h := range headers {
				name, value, ok := strings.Cut(h, ":")
				if !ok {
					return usage(fmt.Sprintf("--header: %q is not a header such as \"Accept: text/html\"", h))
				}
				l.header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
			}
			if err := errors.Join(l.check(), checkURL(l.url)); err != nil {
				return err
			}
			m := t.attack(cmd.Context(), l)
			if t.output == "json" {
				return t.json(m)
			}
			return vegeta.NewTextReporter(m)(t.Out)
		},
	}
	f := cmd.Flags()
	f.IntVarP(&l.requests, "requests", "n", 1000, "how many requests (0: as many as fit into --duration)")
	f.DurationVar(&l.duration, "duration", 0, "stop sending after this time")
	f.IntVarP(&l.concurrency, "concurrency", "c", 10, "how many requests at a time")
	f.IntVar(&l.rate, "rate", 0, "how many requests a second, however long the answers take (0: as fast as they are answered)")
	f.StringVarP(&l.method, "method", "X", http.MethodGet, "method of the requests")
	f.StringVarP(&l.body, "data", "d", "", "body of the requests")
	f.StringArrayVarP(&headers, "header", "H", nil, "header of the requests, such as \"Accept: text/html\"; may be repeated")
	return cmd
}

func (l *load) check() error {
	switch {
	case l.requests < 0 || l.requests == 0 && l.duration <= 0:
		return usage("say how much: --requests of at least 1, or --duration")
	case l.concurrency < 1 || l.concurrency > 10_000:
		return usage(fmt.Sprintf("--concurrency must be 1 to 10000; it is %d", l.concurrency))
	case l.rate < 0 || l.rate > 1_000_000:
		return usage(fmt.Sprintf("--rate must be 0 to 1000000; it is %d", l.rate))
	}
	return nil
}

func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return usage(fmt.Sprintf("%q is not a URL such as http://127.0.0.1:8000/", text))
	}
	return nil
}

// upTo is a pacer that stops after some requests; 0 is no limit.
type upTo struct {
	vegeta.ConstantPacer
	requests uint64
}

func (p upTo) Pace(elapsed time.Duration, sent uint64) (wait time.Duration, stop bool) {
	if p.requests > 0 && sent >= p.requests {
		return 0, true
	}
	return p.ConstantPacer.Pace(elapsed, sent)
}

// attack sends the load until it is done or ctx ends.
func (t *tool) attack(ctx context.Context, l load) *vegeta.Metrics {
	workers := uint64(l.concurrency)
	if l.rate > 0 {
		workers = 10_000
	}
	client := &http.Client{
		Timeout:       t.timeout,
		Transport:     &http.Transport{MaxIdleConnsPerHost: int(workers)},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	attacker := vegeta.NewAttacker(vegeta.Client(client), vegeta.Workers(min(workers, uint64(l.concurrency))), vegeta.MaxWorkers(workers))
	defer context.AfterFunc(ctx, func() { attacker.Stop() })()
	var sent atomic.Int64
	target := func(next *vegeta.Target) error {
		n := strconv.FormatInt(sent.Add(1)-1, 10)
		*next = vegeta.Target{
			Method: l.method, URL: strings.ReplaceAll(l.url, "{n}", n),
			Header: l.header, Body: []byte(strings.ReplaceAll(l.body, "{n}", n)),
		}
		return nil
	}
	var m vegeta.Metrics
	pacer := upTo{vegeta.ConstantPacer{Freq: l.rate, Per: time.Second}, uint64(l.requests)}
	for answer := range attacker.Attack(target, pacer, l.duration, "") {
		m.Add(answer)
	}
	m.Close()
	return &m
}
