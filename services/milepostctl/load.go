package milepostctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// load is what to send, and how fast.
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
second. It prints the total time, the mean time per request, percentiles, and how many requests ended
with which status. {n} in the URL and in --data becomes the number of the request, from 0.

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
			s := t.attack(cmd.Context(), l)
			if t.output == "json" {
				return t.json(s)
			}
			_, err := fmt.Fprint(t.Out, s)
			return err
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
func (t *tool) attack(ctx context.Context, l load) summary {
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
	bar := t.bar(l.requests, "requests")
	var m vegeta.Metrics
	s := summary{Status: map[string]int{}}
	pacer := upTo{vegeta.ConstantPacer{Freq: l.rate, Per: time.Second}, uint64(l.requests)}
	for answer := range attacker.Attack(target, pacer, l.duration, "") {
		m.Add(answer)
		s.Status[outcome(answer)]++
		_ = bar.Add(1) // only a picture
	}
	_ = bar.Finish()
	m.Close()
	s.Requests, s.Total = int(m.Requests), (m.Duration + m.Wait).Seconds()
	if s.Requests > 0 {
		s.Mean, s.Rate = s.Total/float64(s.Requests), float64(s.Requests)/s.Total
	}
	at := m.Latencies
	s.Latency = latency{at.Mean.Seconds(), at.P50.Seconds(), at.P90.Seconds(), at.P99.Seconds(), at.Max.Seconds()}
	return s
}

// outcome is the status of an answer, or why there is none, without the address of the request.
func outcome(r *vegeta.Result) string {
	switch {
	case r.Code != 0:
		return strconv.Itoa(int(r.Code))
	case strings.Contains(r.Error, "Client.Timeout"):
		return "timeout"
	}
	return r.Error[strings.LastIndex(": "+r.Error, ": "):]
}

// summary is what was measured.
type summary struct {
	Requests int            `json:"requests"`
	Total    float64        `json:"total_seconds"`
	Mean     float64        `json:"seconds_per_request"` // total by requests
	Rate     float64        `json:"requests_per_second"`
	Latency  latency        `json:"latency_seconds"`
	Status   map[string]int `json:"status"`
}

type latency struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	Max  float64 `json:"max"`
}

func (s summary) String() string {
	l := s.Latency
	return fmt.Sprintf(`requests    %d
total time  %s
mean        %s per request, %.1f requests a second
latency     mean %s, p50 %s, p90 %s, p99 %s, max %s
status      %s
`, s.Requests, seconds(s.Total), seconds(s.Mean), s.Rate,
		seconds(l.Mean), seconds(l.P50), seconds(l.P90), seconds(l.P99), seconds(l.Max), counted(s.Status))
}

// counted lists how often each came, the most frequent first.
func counted(count map[string]int) string {
	names := slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b))
	})
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = fmt.Sprintf("%s × %d", visible(name), count[name])
	}
	return cmp.Or(strings.Join(parts, ", "), "none")
}
