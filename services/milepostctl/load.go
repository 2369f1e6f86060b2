package milepostctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func (t *tool) load() *cobra.Command {
	var method, body string
	var headers []string
	l := load{}
	cmd := &cobra.Command{
		Use:   "load URL",
		Short: "Send many requests and measure the answers",
		Long: `load sends requests to a URL, --concurrency at once or --rate a second, and prints the total time, the mean time per
request, percentiles and how many requests ended with which status.

With --rate a request's time counts from when it should have been sent. Of our services only web-api limits requests: start
it with RATE_LIMIT=off to measure it.`,
		Example: `  milepostctl load http://127.0.0.1:8000/ --requests 1000 --concurrency 20
  milepostctl load "http://127.0.0.1:8002/api/weather?lat=32.08&long=34.86" --rate 500 --duration 10s --output json`,
		Args: needs("URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(l.check(), checkURL(args[0])); err != nil {
				return err
			}
			header := http.Header{}
			for _, h := range headers {
				name, value, ok := strings.Cut(h, ":")
				if !ok {
					return usage(fmt.Sprintf("--header: %q is not a header such as \"Accept: text/html\"", h))
				}
				header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
			}
			client := newClient(l.concurrency, t.timeout)
			defer client.CloseIdleConnections()
			bar := t.bar(l.requests, "requests")
			m := l.run(cmd.Context(), func(ctx context.Context, _ int) string {
				_, status := send(ctx, client, method, args[0], header, body)
				return status
			}, func() { _ = bar.Add(1) })
			_ = bar.Finish()
			return t.measured(m)
		},
	}
	l.flags(cmd, 1000, 10)
	f := cmd.Flags()
	f.StringVarP(&method, "method", "X", http.MethodGet, "method of the requests")
	f.StringVarP(&body, "data", "d", "", "body of the requests")
	f.StringArrayVarP(&headers, "header", "H", nil, "a header of the requests, such as \"Accept: text/html\"; may be repeated")
	cmd.AddCommand(t.loadPipeline(), t.loadWeather(), t.loadFanout(), t.delayServerCommand())
	return cmd
}

func (l *load) flags(cmd *cobra.Command, requests, concurrency int) {
	f := cmd.Flags()
	f.IntVarP(&l.requests, "requests", "n", requests, "how many requests (0: as many as fit in --duration)")
	f.DurationVar(&l.duration, "duration", 0, "stop beginning requests after this time")
	f.IntVarP(&l.concurrency, "concurrency", "c", concurrency, "how many at once, at most")
	f.Float64Var(&l.rate, "rate", 0, "how many a second (0: as fast as they are answered)")
}

func (l *load) check() error {
	switch {
	case l.requests < 0 || l.requests == 0 && l.duration <= 0:
		return usage("say how much: --requests of at least 1, or --duration")
	case l.concurrency < 1 || l.concurrency > 10_000:
		return usage(fmt.Sprintf("--concurrency: %d is not from 1 to 10000", l.concurrency))
	case l.rate < 0 || l.rate > 1e6:
		return usage(fmt.Sprintf("--rate: %v is not from 0 to 1000000", l.rate))
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

// newClient makes a client that keeps as many connections as it has requests at once.
func newClient(concurrency int, timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: timeout}).DialContext,
			MaxConnsPerHost:     concurrency,
			MaxIdleConnsPerHost: concurrency,
			MaxIdleConns:        0, // as many as there are hosts
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// send makes a request and returns the answer's body and how it ended: its HTTP status or what went wrong.
func send(ctx context.Context, client *http.Client, method, address string, header http.Header, body string) ([]byte, string) {
	r, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		return nil, "error: " + err.Error()
	}
	if len(header) > 0 {
		r.Header = header.Clone()
	}
	response, err := client.Do(r)
	if err != nil {
		return nil, failure(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, failure(err)
	}
	return answer, strconv.Itoa(response.StatusCode)
}

// failure is an error in words that many requests share.
func failure(err error) string {
	if isTimeout(err) {
		return "timeout"
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Op + ": " + op.Err.Error()
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err.Error()
	}
	return err.Error()
}

// bar shows progress to a person; to a program it shows nothing. Most is 0 if nobody knows how much will be done.
func (t *tool) bar(most int, what string) *progressbar.ProgressBar {
	if most == 0 {
		most = -1
	}
	return progressbar.NewOptions(most,
		progressbar.OptionSetWriter(t.Err), progressbar.OptionSetVisibility(watched(t.Err)),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString(what),
		progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish())
}

// watched reports whether a person sees what is written to w.
func watched(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// summary is what was measured, for JSON.
type summary struct {
	Requests int            `json:"requests"`
	Total    float64        `json:"total_seconds"`
	Mean     float64        `json:"seconds_per_request"` // total by requests
	Rate     float64        `json:"requests_per_second"`
	Latency  latency        `json:"latency_seconds"`
	Status   map[string]int `json:"status"`
}

func (m measured) summary() summary {
	n := len(m.times)
	s := summary{Requests: n, Total: m.total.Seconds(), Latency: latencyOf(m.times), Status: m.count}
	if n > 0 {
		s.Mean, s.Rate = s.Total/float64(n), float64(n)/s.Total
	}
	return s
}

func (t *tool) measured(m measured) error {
	if t.output == "json" {
		return t.json(m.summary())
	}
	return m.write(t.Out)
}

func (m measured) write(w io.Writer) error {
	s := m.summary()
	_, err := fmt.Fprintf(w, "requests    %d\ntotal time  %s\nmean        %s per request, %.1f requests a second\nlatency     %s\nstatus      %s\n",
		s.Requests, seconds(s.Total), seconds(s.Mean), s.Rate, s.Latency, counted(s.Status))
	return err
}

func (l latency) String() string {
	return fmt.Sprintf("mean %s, p50 %s, p90 %s, p99 %s, max %s", seconds(l.Mean), seconds(l.P50), seconds(l.P90), seconds(l.P99), seconds(l.Max))
}

// seconds writes a time with as many decimals as tell something.
func seconds(s float64) string {
	switch {
	case s < 0.001:
		return fmt.Sprintf("%.0f µs", s*1e6)
	case s < 0.1:
		return fmt.Sprintf("%.2f ms", s*1e3)
	}
	return fmt.Sprintf("%.3f s", s)
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
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
