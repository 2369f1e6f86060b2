//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// client posts submissions, by vegeta, and follows the log they end in.
//
// It shares the processors with what it measures, so that rates depend on it, and the share of the pipeline in its edge's
// rate, too: a client that costs less shows a faster edge. What the programs themselves cost is in the table of CPU times.
type client struct {
	vegeta.ConstantPacer // of the rate; zero: no bound

	url         string
	connections int
	log         *follower
	began       time.Time

	mu sync.Mutex
	ledger
	room      sync.Cond // one more may be sent, or nothing more
	most      int       // that may be outstanding; 0: no bound
	recording bool
	over      bool      // nothing more is sent
	last      time.Time // something came
}

// ledger is what became of all submissions in the life of a client.
type ledger struct {
	// When each was sent, in nanoseconds since the client began, with doneBit once its line has come, so that a line that comes
	// twice is seen.
	sent []int64

	begun, answered, accepted, written, doubled int
	forgotten                                   int         // accepted, and no line will come
	status                                      map[int]int // how many answers had which
	posts, lines                                []time.Duration
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
	if c.log == nil {
		return nil
	}
	return c.log.close()
}

// aim makes the client post to address over n connections.
func (c *client) aim(address string, n int) {
	c.url, c.connections = "http://"+address+"/distance", n
}

// drive is a stretch of work for the client.
type drive struct {
	warm, measure time.Duration // it submits for warm+measure and records in measure
	outstanding   int           // most submissions that may be without a line; 0: no bound, and lines are not waited for
	rate          int           // submissions a second; 0: as fast as there is room

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
	c.mu.Lock()
	c.ConstantPacer = vegeta.ConstantPacer{Freq: d.rate, Per: time.Second}
	c.most, c.over, c.last = d.outstanding, false, time.Now()
	c.mu.Unlock()
	var answers <-chan *vegeta.Result
	if d.warm+d.measure > 0 {
		n := uint64(c.connections)
		h := &http.Client{Timeout: stalled, Transport: &http.Transport{MaxConnsPerHost: c.connections, MaxIdleConnsPerHost: c.connections}}
		defer h.CloseIdleConnections() // a server would close them later, in the midst of the next stretch
		answers = vegeta.NewAttacker(vegeta.Client(h), vegeta.Workers(n), vegeta.MaxWorkers(n)).Attack(c.next, c, 0, "")
	}
	defer func() {
		c.stop()
		if answers != nil { // after an error: what is under way has nobody else to tell
			go func() {
				for range answers {
				}
			}()
		}
	}()

	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	start := time.Now()
	from, to := start.Add(d.warm), start.Add(d.warm+d.measure)
	accepted, written, begun, sample := 0, 0, start, from
	for state := warming; ; {
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case a, more := <-answers:
			if !more {
				answers = nil
			} else if err := c.took(a); err != nil {
				return r, err
			}
			continue
		case <-tick.C:
		}
		now := time.Now()
		outstanding, err := c.look(now)
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
			state = ending
		case state == recording && !now.Before(sample):
			r.outstanding = append(r.outstanding, outstanding)
			sample = sample.Add(100 * time.Millisecond)
		case state == ending && answers == nil && (d.outstanding == 0 || outstanding == 0):
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

// look returns how many submissions are outstanding, and an error if nothing comes any more.
func (c *client) look(now time.Time) (outstanding int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.last) > stalled {
		err = fmt.Errorf("nothing has come for %s: of %d submissions %d are answered, %d accepted, %d have their line", stalled, c.begun, c.answered, c.accepted, c.written)
	}
	return c.outstanding(), err
}

// outstanding is how many submissions have no line yet and may get one.
func (l *ledger) outstanding() int {
	return l.begun - (l.answered - l.accepted) - l.written - l.forgotten
}

// forget gives up the lines that have not come.
func (c *client) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgotten += c.outstanding()
}

// Pace waits until one more may be sent, and then says how long the rate has it wait: it makes the client a vegeta.Pacer.
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

// next makes the next submission: it is vegeta's Targeter.
func (c *client) next(t *vegeta.Target) error {
	c.mu.Lock()
	number := len(c.sent)
	c.sent = append(c.sent, int64(time.Since(c.began)))
	c.mu.Unlock()
	*t = vegeta.Target{Method: http.MethodPost, URL: c.url, Header: header, Body: submission(number)}
	return nil
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

// submission is the body of one, with its number.
func submission(number int) []byte {
	body := bytes.Clone(template)
	put(body[atNumber:atNumber+digits], number)
	put(body[atLat:atLat+2], 10+number%70)
	put(body[atLat+3:atLat+7], number*7)
	put(body[atLong:atLong+2], 10+number/70%80)
	put(body[atLong+3:atLong+8], number*13)
	return body
}

// took notes how a submission was answered.
func (c *client) took(a *vegeta.Result) error {
	if a.Code == 0 {
		return errors.New(a.Error)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
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
	return nil
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
