//go:build linux

package pipeline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// BenchmarkPostToLine submits 100 places a second to the four programs, each a process of its own, and measures the time
// from before each POST until its line stands in the log. Redis has broker.conf's durability or none. MONGO_URL names a
// document store to measure with; without it that of standalone is used, which is not made for measuring.
func BenchmarkPostToLine(b *testing.B) {
	for _, c := range []struct{ name, fsync string }{{"appendfsync=no", "no"}, {"appendfsync=always", "always"}} {
		b.Run(c.name, func(b *testing.B) {
			p := newPipelineOn(b, "", []string{"--appendfsync", c.fsync}, append(mongoFromEnvironment(), strings.Fields(os.Getenv("BENCH_ENV"))...)...)
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
	p.submit(visit{run + "@example.com", "0", "0"}) // so that the log is there
	p.delivered(run + "@example.com")
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

// follow notes when the line of each submission of a run comes into the log, until all have come. The kernel tells of each
// write: looking again and again would take the time of what is measured, and a sleep here lasts a millisecond.
func (p *pipeline) follow(run string, written []time.Time) error {
	watch, err := syscall.InotifyInit1(syscall.IN_CLOEXEC)
	if err != nil {
		return err
	}
	defer syscall.Close(watch)
	if _, err := syscall.InotifyAddWatch(watch, p.log, syscall.IN_MODIFY); err != nil {
		return fmt.Errorf("watch %s: %w", p.log, err)
	}
	f, err := os.Open(p.log)
	if err != nil {
		return err
	}
	defer f.Close()
	rest, buf, news := "", make([]byte, 1<<16), make([]byte, 4096)
	for left := len(written); left > 0; {
		if _, err := syscall.Read(watch, news); err != nil && err != syscall.EINTR {
			return err
		}
		now := time.Now()
		for {
			k, err := f.Read(buf)
			if err != nil && err != io.EOF {
				return err
			}
			if k == 0 {
				break
			}
			rest += string(buf[:k])
		}
		for l, more, ok := strings.Cut(rest, "\n"); ok; l, more, ok = strings.Cut(rest, "\n") {
			rest = more
			var i int
			if _, after, ok := strings.Cut(l, run+"-"); ok {
				if _, err := fmt.Sscanf(after, "%d@", &i); err == nil && written[i].IsZero() {
					written[i] = now
					left--
				}
			}
		}
	}
	return nil
}
