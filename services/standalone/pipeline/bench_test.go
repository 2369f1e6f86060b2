//go:build unix

package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// BenchmarkPostToLine submits 100 places a second to the four programs, each a process of its own, and measures the time
// from before each POST until its line stands in the log. Redis has broker.conf's durability or none. MONGO_URL names a
// document store to measure with; without it that of standalone is used, which is not made for measuring.
func BenchmarkPostToLine(b *testing.B) {
	for _, c := range []struct{ name, fsync string }{{"appendfsync=no", "no"}, {"appendfsync=always", "always"}} {
		b.Run(c.name, func(b *testing.B) {
			p := newPipelineOn(b, "", []string{"--appendfsync", c.fsync}, mongoFromEnvironment()...)
			p.start(all...)
			for range b.N {
				ms := p.latencies(100, 10*time.Second)
				slices.Sort(ms)
				b.ReportMetric(ms[len(ms)/2], "p50-ms")
				b.ReportMetric(ms[len(ms)*99/100], "p99-ms")
				b.ReportMetric(ms[len(ms)-1], "max-ms")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func mongoFromEnvironment() []string {
	if url := os.Getenv("MONGO_URL"); url != "" {
		return []string{"MONGO_URL=" + url}
	}
	return nil
}

// latencies submits at a rate for a while, after a second that does not count, and returns for each submission the
// milliseconds from its POST to its line.
func (p *pipeline) latencies(perSecond int, d time.Duration) []float64 {
	p.t.Helper()
	run := fmt.Sprintf("bench%d", time.Now().UnixNano())
	n := int(d.Seconds()+1) * perSecond
	begun, written := make([]time.Time, n), make([]time.Time, n)
	tailing := make(chan error, 1)
	go func() { tailing <- p.follow(run, written) }()

	keep := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer keep.CloseIdleConnections()
	var posts sync.WaitGroup
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for i := range n {
		<-tick.C
		posts.Go(func() {
			body, err := json.Marshal(visit{fmt.Sprintf("%s-%d@example.com", run, i), "40.7128", "-74.0060"})
			if err != nil {
				p.t.Error(err)
				return
			}
			begun[i] = time.Now()
			resp, err := keep.Post(p.web[0].url+"/distance", "application/json", bytes.NewReader(body))
			if err != nil {
				p.t.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body) // so that the connection is used again
			resp.Body.Close()
			if resp.StatusCode != http.StatusCreated {
				p.t.Errorf("POST /distance: %s", resp.Status)
			}
		})
	}
	posts.Wait()
	if err := <-tailing; err != nil {
		p.t.Fatal(err)
	}
	ms := make([]float64, 0, n)
	for i := perSecond; i < n; i++ {
		ms = append(ms, written[i].Sub(begun[i]).Seconds()*1000)
	}
	return ms
}

// follow notes when the line of each submission of a run comes into the log, which it looks at five times a millisecond,
// until all have come.
func (p *pipeline) follow(run string, written []time.Time) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	var f *os.File
	for f == nil {
		var err error
		if f, err = os.Open(p.log); err != nil && ctx.Err() != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	defer f.Close()
	rest, buf := "", make([]byte, 1<<16)
	for left := len(written); left > 0; {
		if ctx.Err() != nil {
			return fmt.Errorf("%d lines are missing", left)
		}
		k, err := f.Read(buf)
		if err != nil && err != io.EOF {
			return err
		}
		now := time.Now()
		rest += string(buf[:k])
		for {
			l, more, ok := strings.Cut(rest, "\n")
			if !ok {
				break
			}
			rest = more
			var i int
			if _, after, ok := strings.Cut(l, run+"-"); ok {
				if _, err := fmt.Sscanf(after, "%d@", &i); err == nil && written[i].IsZero() {
					written[i] = now
					left--
				}
			}
		}
		if k == 0 {
			time.Sleep(200 * time.Microsecond)
		}
	}
	return nil
}
