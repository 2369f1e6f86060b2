//go:build linux

package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// client posts submissions, forms or JSON, with vegeta and follows the log that they end in.
//
// It shares the cores with the programs, so rates depend on it. The share of the pipeline in its
// edge's rate depends on it, too: a cheaper client makes the edge look faster.
type client struct {
	vegeta.ConstantPacer // the rate; zero is unlimited

	posting     // of the drive
	url         string
	connections int        // of the drive
	log         *tail      // nil: no lines are written
	followed    chan error // why the log is not read any more
	began       time.Time

	mu sync.Mutex
	ledger
	room      sync.Cond // one more may be sent, or the sending is over
	most      int       // that may be outstanding; 0: no bound
	recording bool
	over      bool      // nothing more is sent
	last      time.Time // of an answer or a line
	failed    error     // of a request without an answer
}

// posting is a way of submitting.
type posting struct {
	header http.Header
	body   func(number int) []byte
}

var (
	asJSON = posting{http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}}, jsonBody}
	// It takes the page compressed, as a browser does, and like other load generators it does
	// not unpack it, which costs Go's client 80 µs on the cores that it shares with the
	// programs. Nor does it keep any body that it has read.
	asForm = posting{http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"text/html"}, "Accept-Encoding": {"gzip"}}, formBody}
)

// Each submission has an address and a place of its own. A line of the log names its number.
const (
	mark   = "bench-"
	digits = 10
)

func jsonBody(n int) []byte {
	return fmt.Appendf(nil, `{"email":"%s%0*d@example.com","lat":"%d.%04d","long":"%d.%05d"}`,
		mark, digits, n, 10+n%70, n*7%10_000, 10+n/70%80, n*13%100_000)
}

// formBody has what the page's form sends, the hidden one-time key too, a UUIDv7.
func formBody(n int) []byte {
	ms := time.Now().UnixMilli()
	return fmt.Appendf(nil, "idempotency_key=%08x-%04x-7000-8000-%012x&email=%s%0*d%%40example.com&lat=%d.%04d&long=%d.%05d",
		ms>>16, ms&0xffff, n, mark, digits, n, 10+n%70, n*7%10_000, 10+n/70%80, n*13%100_000)
}

// ledger is what became of all submissions of a client.
type ledger struct {
	// sent has the time of each submission in nanoseconds since the client began, with doneBit
	// once its line was written, so that a second line is noticed.
	sent []int64

	begun, answered, accepted, written, doubled int
	status                                      map[int]int // answers by status
	posts, lines                                []time.Duration
}

const doneBit = int64(1) << 62

// newClient makes a client that posts to an address. path is the log with the lines, which must
// exist; "" if no lines are written.
func newClient(b testing.TB, address, path string) *client {
	b.Helper()
	c := &client{url: "http://" + address + "/distance", began: time.Now(), followed: make(chan error, 1), ledger: ledger{status: map[int]int{}}}
	c.room.L = &c.mu
	if path == "" {
		return c
	}
	var err error
	if c.log, err = openTail(path); err != nil {
		b.Fatal(err)
	}
	go func() {
		lines := bufio.NewScanner(c.log)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if n, ok := numberIn(lines.Bytes()); ok {
				c.came(n)
			}
		}
		c.followed <- lines.Err()
	}()
	b.Cleanup(func() {
		err := c.log.Close()
		if ended := <-c.followed; err != nil || !errors.Is(ended, os.ErrClosed) {
			b.Errorf("the log: %v, %v", ended, err)
		}
	})
	return c
}

// drive is a stretch of work for the client.
type drive struct {
	posting
	connections   int           // one request at a time each
	warm, measure time.Duration // it submits for warm+measure and records during measure
	outstanding   int           // most submissions without a line; 0: no bound, and lines are not waited for
	rate          int           // submissions a second; 0: unlimited

	edge func() // called at the begin and at the end of measure
}

// driven is what was recorded.
type driven struct {
	seconds           float64
	accepted, written int
	posts, lines      []time.Duration // sorted; from sending to the answer, and to the line
}

// stalled is the longest time without any answer or line.
const stalled = 30 * time.Second

// run submits as d says. It returns when all requests are answered and, if the outstanding ones
// are bounded, all lines are written.
func (c *client) run(ctx context.Context, d drive) (r driven, err error) {
	c.mu.Lock()
	c.posting, c.connections = d.posting, d.connections
	c.ConstantPacer = vegeta.ConstantPacer{Freq: d.rate, Per: time.Second}
	c.most, c.over, c.last = d.outstanding, false, time.Now()
	c.mu.Unlock()
	sending := make(chan struct{})
	go func() {
		defer close(sending)
		c.send()
	}()
	defer func() {
		c.stop()
		<-sending
	}()
	if err := c.until(ctx, d.warm, nil); err != nil {
		return r, err
	}
	d.edge()
	start := time.Now()
	accepted, written := c.record(true)
	if err := c.until(ctx, d.measure, nil); err != nil {
		return r, err
	}
	a, w := c.record(false)
	r.seconds, r.accepted, r.written = time.Since(start).Seconds(), a-accepted, w-written
	d.edge()
	c.stop()
	<-sending
	if d.outstanding > 0 {
		err = c.settled(ctx)
	}
	r.posts, r.lines = c.posts, c.lines
	slices.Sort(r.posts)
	slices.Sort(r.lines)
	return r, err
}

// send posts until stop, and returns when everything is answered.
func (c *client) send() {
	n := uint64(c.connections)
	h := &http.Client{Timeout: stalled, Transport: &http.Transport{MaxConnsPerHost: c.connections, MaxIdleConnsPerHost: c.connections}}
	defer h.CloseIdleConnections() // else the server closes them during the next stretch
	for a := range vegeta.NewAttacker(vegeta.Client(h), vegeta.Workers(n), vegeta.MaxWorkers(n), vegeta.MaxBody(0)).Attack(c.next, c, 0, "") {
		c.took(a)
	}
}

// settled waits until all accepted submissions have their lines.
func (c *client) settled(ctx context.Context) error {
	c.mu.Lock()
	c.last = time.Now()
	c.mu.Unlock()
	return c.until(ctx, 0, func() bool { return c.outstanding() == 0 })
}

// until waits for some time, and until done, if it is not nil, returns true. It fails if a request
// failed or nothing was answered or written for too long.
func (c *client) until(ctx context.Context, wait time.Duration, done func() bool) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(wait); ; {
		c.mu.Lock()
		err, ended := c.failed, !time.Now().Before(end) && (done == nil || done())
		if err == nil && time.Since(c.last) > stalled {
			err = fmt.Errorf("nothing has happened for %s: of %d submissions %d are answered, %d accepted, %d have their line", stalled, c.begun, c.answered, c.accepted, c.written)
		}
		c.mu.Unlock()
		if err != nil || ended {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// record begins or ends recording, and returns what was accepted and written until now.
func (c *client) record(on bool) (accepted, written int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.recording = on; on {
		c.posts, c.lines = nil, nil
	}
	return c.accepted, c.written
}

func (c *client) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	c.room.Broadcast()
}

// outstanding is how many submissions have no line yet and may get one.
func (l *ledger) outstanding() int {
	return l.begun - (l.answered - l.accepted) - l.written
}

// Pace waits until one more submission may be sent, and then returns how long the rate delays it.
// It makes the client a vegeta.Pacer.
func (c *client) Pace(elapsed time.Duration, hits uint64) (wait time.Duration, stop bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.over && c.most > 0 && c.outstanding() >= c.most {
		c.room.Wait()
	}
	if c.over {
		return 0, true
	}
	c.begun++
	return c.ConstantPacer.Pace(elapsed, hits)
}

// next makes the next submission. It is vegeta's Targeter.
func (c *client) next(t *vegeta.Target) error {
	c.mu.Lock()
	number := len(c.sent)
	c.sent = append(c.sent, int64(time.Since(c.began)))
	c.mu.Unlock()
	*t = vegeta.Target{Method: http.MethodPost, URL: c.url, Header: c.header, Body: c.body(number)}
	return nil
}

// took notes how a submission was answered.
func (c *client) took(a *vegeta.Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.Code == 0 {
		c.failed, c.over = errors.New(a.Error), true
		c.room.Broadcast()
		return
	}
	c.last = time.Now()
	c.answered++
	c.status[int(a.Code)]++
	if a.Code == http.StatusCreated {
		c.accepted++
	} else {
		c.room.Signal()
	}
	if c.recording {
		c.posts = append(c.posts, a.Latency)
	}
}

// came notes that a line was written.
func (c *client) came(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = time.Now()
	if n >= len(c.sent) || c.sent[n]&doneBit != 0 {
		c.doubled++
		return
	}
	if c.recording {
		c.lines = append(c.lines, c.last.Sub(c.began)-time.Duration(c.sent[n]))
	}
	c.sent[n] |= doneBit
	c.written++
	c.room.Signal()
}
