//go:build linux

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"
)

// client posts submissions and follows the log they end in.
//
// It is Go's own HTTP client, which takes about as much CPU time for a request as its server does, as those of the usual load
// generators do (vegeta, hey and k6 are made of it). It shares the processors with what it measures, so that rates depend
// on it, and the share of the pipeline in its edge's rate, too: a client that costs less shows a faster edge. What the programs
// themselves cost is in the table of CPU times.
type client struct {
	http    *http.Client
	url     string
	workers int // submissions at once: the connections
	log     *follower
	began   time.Time

	mu sync.Mutex
	ledger
	room      sync.Cond // a worker may go on
	most      int       // that may be outstanding; 0: no bound
	allowed   int       // of sent: what the rate makes of it, or any number
	recording bool
	over      bool // nothing more is sent
	failed    error
	last      time.Time // something came
}

// ledger is what became of all submissions in the life of a client.
type ledger struct {
	// When each was sent, in nanoseconds since the client began, with doneBit once its line has come, so that a line that comes
	// twice is seen.
	sent []int64

	answered, accepted, written, doubled int
	forgotten                            int         // accepted, and no line will come
	status                               map[int]int // how many answers had which
	posts, lines                         []time.Duration
}

// doneBit marks a submission whose line has come.
const doneBit = int64(1) << 62

// newClient makes a client without connections. Log is the file in which the lines appear, which must exist; "" if no
// lines will come.
func newClient(log string) (*client, error) {
	c := &client{began: time.Now(), ledger: ledger{status: map[int]int{}}}
	c.room.L = &c.mu
	if log == "" {
		return c, nil
	}
	var err error
	c.log, err = follow(log, c.came)
	return c, err
}

func (c *client) close() error {
	c.disconnect()
	if c.log == nil {
		return nil
	}
	return c.log.close()
}

// connect makes the client ready to post to address over n connections.
func (c *client) connect(address string, n int) {
	c.url = "http://" + address + "/distance"
	c.http = &http.Client{Timeout: stalled, Transport: &http.Transport{MaxConnsPerHost: n, MaxIdleConnsPerHost: n}}
	c.workers = n
}

func (c *client) disconnect() {
	if c.http != nil {
		c.http.CloseIdleConnections()
	}
}

// drive is a stretch of work for the client.
type drive struct {
	warm, measure time.Duration // it submits for warm+measure and records in measure
	outstanding   int           // most submissions that may be without a line; 0: no bound, and lines are not waited for
	rate          float64       // submissions a second; 0: as fast as there is room

	begin, end func() error // called at the edges of measure
}

// driven is what was seen in the measured part of a stretch.
type driven struct {
	seconds           float64
	accepted, written int
	posts, lines      []time.Duration // sorted; from sending to the answer, and to the line
	outstanding       []int           // submissions without a line, ten times a second
}

// stalled is how long nothing at all may happen.
const stalled = 30 * time.Second

// run submits as d says. It returns when all it sent is answered and, if the outstanding ones are bounded, has its line.
func (c *client) run(ctx context.Context, d drive) (r driven, err error) {
	ctx, cancel := context.WithCancel(ctx)
	c.mu.Lock()
	before := len(c.sent)
	c.most, c.allowed, c.over, c.failed, c.last = d.outstanding, math.MaxInt, false, nil, time.Now()
	every := 10 * time.Millisecond
	if d.rate > 0 {
		c.allowed, every = before, time.Millisecond
	}
	c.mu.Unlock()

	var workers sync.WaitGroup
	if d.warm+d.measure > 0 {
		for range c.workers {
			workers.Go(func() { c.work(ctx) })
		}
	}
	answered := make(chan struct{})
	defer func() {
		cancel()
		c.stop()
		workers.Wait()
	}()

	tick := time.NewTicker(every)
	defer tick.Stop()
	start := time.Now()
	from, to := start.Add(d.warm), start.Add(d.warm+d.measure)
	accepted, written, begun, sample := 0, 0, start, from
	for state := warming; ; {
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-tick.C:
		}
		now := time.Now()
		outstanding, err := c.look(now, before+int(now.Sub(start).Seconds()*d.rate))
		switch {
		case err != nil:
			return r, err
		case state == warming && !now.Before(from):
			if err := call(d.begin); err != nil {
				return r, err
			}
			begun = time.Now()
			accepted, written = c.record(true)
			state = recording
		case state == recording && !now.Before(to):
			a, w := c.record(false)
			r.seconds, r.accepted, r.written = time.Since(begun).Seconds(), a-accepted, w-written
			if err := call(d.end); err != nil {
				return r, err
			}
			c.stop()
			go func() { workers.Wait(); close(answered) }()
			state = ending
		case state == recording && !now.Before(sample):
			r.outstanding = append(r.outstanding, outstanding)
			sample = sample.Add(100 * time.Millisecond)
		case state == ending && isClosed(answered) && (d.outstanding == 0 || outstanding == 0):
			r.posts, r.lines = c.posts, c.lines
			slices.Sort(r.posts)
			slices.Sort(r.lines)
			return r, nil
		}
	}
}

// What run is at.
const (
	warming = iota
	recording
	ending // nothing more is sent
)

func call(f func() error) error {
	if f == nil {
		return nil
	}
	return f()
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// record begins or ends recording and returns what was accepted and written until now.
func (c *client) record(on bool) (accepted, written int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.recording = on; on {
		c.posts, c.lines = nil, nil
	}
	return c.accepted, c.written
}

// stop ends the sending.
func (c *client) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	c.room.Broadcast()
}

// look allows so many to have been sent, if the rate is bounded, and returns how many are outstanding, or what went wrong.
func (c *client) look(now time.Time, allowed int) (outstanding int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.allowed < math.MaxInt {
		for ; c.allowed < allowed; c.allowed++ {
			c.room.Signal()
		}
	}
	if err = c.failed; err == nil && now.Sub(c.last) > stalled {
		err = fmt.Errorf("nothing has come for %s: of %d submissions %d are answered, %d accepted, %d have their line", stalled, len(c.sent), c.answered, c.accepted, c.written)
	}
	return c.outstanding(), err
}

// outstanding is how many submissions have no line yet and may get one.
func (l *ledger) outstanding() int {
	return len(l.sent) - (l.answered - l.accepted) - l.written - l.forgotten
}

// forget gives up the lines that have not come.
func (c *client) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgotten += c.outstanding()
}

// work submits until nothing more is to be sent.
func (c *client) work(ctx context.Context) {
	body := bytes.Clone(template)
	for {
		number, at, ok := c.next()
		if !ok {
			return
		}
		status, err := c.post(ctx, body, number)
		c.took(at, status, err)
	}
}

// next waits until one more may be sent and returns its number.
func (c *client) next() (number int, at time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.over {
		if (c.most == 0 || c.outstanding() < c.most) && len(c.sent) < c.allowed {
			at = time.Since(c.began)
			c.sent = append(c.sent, int64(at))
			return len(c.sent) - 1, at, true
		}
		c.room.Wait()
	}
	return 0, 0, false
}

// A submission without its numbers: ten digits make the address its own, nine the place.
const (
	mark   = "bench-"
	digits = 10
)

var (
	template = []byte(`{"email":"` + mark + `0000000000@example.com","lat":"00.0000","long":"00.00000"}`)
	atNumber = bytes.Index(template, []byte(mark)) + len(mark)
	atLat    = bytes.Index(template, []byte("00.0000"))
	atLong   = bytes.Index(template, []byte("00.00000"))
	header   = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}}
)

// put writes the last len(b) decimal digits of n.
func put(b []byte, n int) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}

// post sends a submission, made in body, and returns the status of its answer.
func (c *client) post(ctx context.Context, body []byte, number int) (status int, err error) {
	put(body[atNumber:atNumber+digits], number)
	put(body[atLat:atLat+2], 10+number%70)
	put(body[atLat+3:atLat+7], number*7)
	put(body[atLong:atLong+2], 10+number/70%80)
	put(body[atLong+3:atLong+8], number*13)
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	q.Header = header
	a, err := c.http.Do(q)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, a.Body)
	return a.StatusCode, errors.Join(err, a.Body.Close())
}

// took notes how a submission was answered.
func (c *client) took(at time.Duration, status int, err error) {
	now := time.Since(c.began)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = time.Now()
	if err != nil {
		if !c.over {
			c.over, c.failed = true, err
			c.room.Broadcast()
		}
		return
	}
	c.answered++
	c.status[status]++
	if status == http.StatusCreated {
		c.accepted++
	}
	if c.recording {
		c.posts = append(c.posts, now-at)
	}
}

// came notes that lines stand in the log.
func (c *client) came(numbers []int) {
	now := time.Since(c.began)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = time.Now()
	for _, n := range numbers {
		if n >= len(c.sent) || c.sent[n]&doneBit != 0 {
			c.doubled++
			continue
		}
		if c.recording {
			c.lines = append(c.lines, now-time.Duration(c.sent[n]))
		}
		c.sent[n] |= doneBit
		c.written++
		c.room.Signal()
	}
}
