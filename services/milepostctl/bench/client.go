//go:build linux

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// client posts submissions and reads the log they end in, all in one goroutine.
//
// It speaks HTTP/1.1 by hand on non-blocking sockets and one epoll, because it shares two cores with what it measures:
// net/http's client takes about as much CPU for a request as its server does, and a figure made with it would be half the
// client's. Here a request is a write, a read and a share of an epoll_wait. A connection has one request under way unless
// depth says more; pipelining saves the server reads that no browser or proxy would save it.
type client struct {
	epoll int
	conns map[int]*conn // by file descriptor
	ready []*conn       // one for each request that may be sent; a connection stands here as often as it has room
	to    unix.Sockaddr // where connections go
	depth int           // requests at a time on each
	log   *follower
	began time.Time
	bytes []byte // the request, to be given its numbers

	// When each submission in the life of the client was sent, in nanoseconds since began, with doneBit once its line has
	// come, so that a line that comes twice is seen.
	sent []int64

	answered, accepted, written, doubled int
	forgotten                            int         // accepted, and no line will come
	status                               map[int]int // how many answers had which
	posts, lines                         []time.Duration
	recording                            bool
}

type conn struct {
	fd     int
	flight []int // numbers of the submissions under way, in the order of their answers
	in     []byte
	out    []byte
}

// doneBit marks a submission whose line has come.
const doneBit = int64(1) << 62

// newClient makes a client without connections. Log is the file in which the lines appear, which must exist; "" if no
// lines will come.
func newClient(log string) (*client, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	c := &client{epoll: ep, conns: map[int]*conn{}, began: time.Now(), bytes: bytes.Clone(template), status: map[int]int{}}
	if log == "" {
		return c, nil
	}
	if c.log, err = follow(log); err == nil {
		err = c.watch(c.log.inotify)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *client) watch(fd int) error {
	return unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (c *client) close() {
	c.disconnect()
	if c.log != nil {
		c.log.close()
	}
	_ = unix.Close(c.epoll)
}

// connect opens n connections to address, each for so many requests at a time.
func (c *client) connect(address string, n, depth int) error {
	a, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		return err
	}
	c.to, c.depth = &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())}, depth
	for range n {
		if err := c.open(); err != nil {
			return fmt.Errorf("connect to %s: %w", address, err)
		}
	}
	return nil
}

// open opens one more connection.
func (c *client) open() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	k := &conn{fd: fd, in: make([]byte, 0, 16<<10)}
	c.conns[fd] = k
	if err := unix.Connect(fd, c.to); err != nil {
		return err
	}
	if err := errors.Join(unix.SetNonblock(fd, true), unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1), c.watch(fd)); err != nil {
		return err
	}
	for range c.depth {
		c.ready = append(c.ready, k)
	}
	return nil
}

// reopen replaces a connection that the server closed while nothing was under way on it: web-api gives the first request
// of a connection 5 s to come.
func (c *client) reopen(k *conn) error {
	delete(c.conns, k.fd)
	c.ready = slices.DeleteFunc(c.ready, func(r *conn) bool { return r == k })
	others := len(c.ready)
	if err := errors.Join(unix.Close(k.fd), c.open()); err != nil {
		return fmt.Errorf("connect again: %w", err)
	}
	// Those that are in use stay the next to be used: this one may be closed again at any moment.
	c.ready = slices.Concat(c.ready[others:], c.ready[:others])
	return nil
}

// disconnect closes all connections.
func (c *client) disconnect() {
	for fd := range c.conns {
		_ = unix.Close(fd)
	}
	clear(c.conns)
	c.ready = nil
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
func (c *client) run(ctx context.Context, d drive) (driven, error) {
	var r driven
	start := time.Now()
	from, to := start.Add(d.warm), start.Add(d.warm+d.measure)
	before, accepted, written := len(c.sent), 0, 0
	begun, sample, last := start, from, start
	for state := warming; ; {
		now := time.Now()
		if state == warming && !now.Before(from) {
			if err := call(d.begin); err != nil {
				return r, err
			}
			state, c.recording, c.posts, c.lines = recording, true, nil, nil
			accepted, written, begun = c.accepted, c.written, now
		}
		if state == recording && !now.Before(to) {
			state, c.recording = ending, false
			r.seconds, r.accepted, r.written = now.Sub(begun).Seconds(), c.accepted-accepted, c.written-written
			if err := call(d.end); err != nil {
				return r, err
			}
		}
		if state == recording && !now.Before(sample) {
			r.outstanding = append(r.outstanding, c.outstanding())
			sample = sample.Add(100 * time.Millisecond)
		}
		if state == ending && c.answered == len(c.sent) && (d.outstanding == 0 || c.outstanding() == 0) {
			slices.Sort(c.posts)
			slices.Sort(c.lines)
			r.posts, r.lines = c.posts, c.lines
			return r, nil
		}
		if state != ending {
			room := len(c.ready)
			if d.outstanding > 0 {
				room = min(room, d.outstanding-c.outstanding())
			}
			if d.rate > 0 {
				room = min(room, int(now.Sub(start).Seconds()*d.rate)-(len(c.sent)-before))
			}
			if err := c.send(room, now); err != nil {
				return r, err
			}
		}
		came, err := c.wait(d.rate > 0)
		switch {
		case err != nil:
			return r, err
		case ctx.Err() != nil:
			return r, ctx.Err()
		case came:
			last = time.Now()
		case time.Since(last) > stalled:
			return r, fmt.Errorf("nothing has come for %s: of %d submissions %d are answered, %d accepted, %d have their line", stalled, len(c.sent), c.answered, c.accepted, c.written)
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

// outstanding is how many submissions have no line yet and may get one.
func (c *client) outstanding() int {
	return len(c.sent) - (c.answered - c.accepted) - c.written - c.forgotten
}

// forget gives up the lines that have not come.
func (c *client) forget() { c.forgotten += c.outstanding() }

// request is a submission without its numbers: ten digits make the address its own, nine the place.
const (
	body    = `{"email":"bench-0000000000@example.com","lat":"00.0000","long":"00.00000"}`
	request = "POST /distance HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nAccept: application/json\r\nContent-Length: "
	mark    = "bench-"
	digits  = 10
)

var (
	template = []byte(request + strconv.Itoa(len(body)) + "\r\n\r\n" + body)
	atNumber = bytes.Index(template, []byte(mark)) + len(mark)
	atLat    = bytes.Index(template, []byte("00.0000"))
	atLong   = bytes.Index(template, []byte("00.00000"))
)

// put writes the last len(b) decimal digits of n.
func put(b []byte, n int) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}

// send posts n submissions.
func (c *client) send(n int, now time.Time) error {
	at := int64(now.Sub(c.began))
	for n > 0 {
		k := c.ready[len(c.ready)-1]
		k.out = k.out[:0]
		for n > 0 && len(c.ready) > 0 && c.ready[len(c.ready)-1] == k {
			number := len(c.sent)
			put(c.bytes[atNumber:atNumber+digits], number)
			put(c.bytes[atLat:atLat+2], 10+number%70)
			put(c.bytes[atLat+3:atLat+7], number*7)
			put(c.bytes[atLong:atLong+2], 10+number/70%80)
			put(c.bytes[atLong+3:atLong+8], number*13)
			k.out = append(k.out, c.bytes...)
			k.flight = append(k.flight, number)
			c.sent = append(c.sent, at)
			c.ready = c.ready[:len(c.ready)-1]
			n--
		}
		// A few hundred bytes to a peer that has answered all before always fit.
		m, err := unix.Write(k.fd, k.out)
		if err == nil && m < len(k.out) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	return nil
}

// wait handles what comes within a moment, 10 ms or a short one, and tells whether anything did.
func (c *client) wait(short bool) (bool, error) {
	var events [256]unix.EpollEvent
	wait := 10 // ms
	if short {
		wait = 1
	}
	n, err := unix.EpollWait(c.epoll, events[:], wait)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return false, fmt.Errorf("epoll: %w", err)
	}
	now := time.Since(c.began)
	for _, e := range events[:max(0, n)] {
		if c.log != nil && int(e.Fd) == c.log.inotify {
			if err := c.log.read(func(number int) { c.line(number, now) }); err != nil {
				return false, err
			}
			continue
		}
		if err := c.receive(c.conns[int(e.Fd)], now); err != nil {
			return false, err
		}
	}
	return n > 0, nil
}

// line notes that a submission's line stands in the log.
func (c *client) line(number int, now time.Duration) {
	if number >= len(c.sent) || c.sent[number]&doneBit != 0 {
		c.doubled++
		return
	}
	if c.recording {
		c.lines = append(c.lines, now-time.Duration(c.sent[number]))
	}
	c.sent[number] |= doneBit
	c.written++
}

// receive reads answers.
func (c *client) receive(k *conn, now time.Duration) error {
	if len(k.in) == cap(k.in) {
		return fmt.Errorf("an answer of more than %d bytes: %.200q", cap(k.in), k.in)
	}
	n, err := unix.Read(k.fd, k.in[len(k.in):cap(k.in)])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("receive: %w", err)
	case n == 0 && len(k.flight) == 0:
		return c.reopen(k)
	case n == 0:
		return errors.New("the server closed a connection with a request under way")
	}
	k.in = k.in[:len(k.in)+n]
	rest := k.in
	for {
		status, length, err := answer(rest)
		if err != nil {
			return err
		}
		if length == 0 || len(k.flight) == 0 {
			break
		}
		rest = rest[length:]
		number := k.flight[0]
		k.flight = k.flight[:copy(k.flight, k.flight[1:])]
		c.ready = append(c.ready, k)
		c.answered++
		c.status[status]++
		if status == 201 {
			c.accepted++
		}
		if c.recording {
			c.posts = append(c.posts, now-time.Duration(c.sent[number]&^doneBit))
		}
	}
	k.in = k.in[:copy(k.in, rest)]
	return nil
}

var (
	headEnd       = []byte("\r\n\r\n")
	contentLength = []byte("\r\nContent-Length: ")
)

// answer is the status of the first HTTP answer in b and its length with head and body; 0 if it is not all there.
func answer(b []byte) (status, length int, err error) {
	head := bytes.Index(b, headEnd)
	if head < 0 {
		return 0, 0, nil
	}
	at := bytes.Index(b[:head], contentLength)
	if at < 0 || len(b) < len("HTTP/1.1 201") {
		return 0, 0, fmt.Errorf("an answer without Content-Length: %.200q", b)
	}
	value := b[at+len(contentLength) : head]
	if end := bytes.IndexByte(value, '\r'); end >= 0 {
		value = value[:end]
	}
	n, err := strconv.Atoi(string(value))
	if err == nil {
		status, err = strconv.Atoi(string(b[9:12]))
	}
	if err != nil {
		return 0, 0, fmt.Errorf("an answer that is not HTTP/1.1: %.200q", b)
	}
	if length = head + len(headEnd) + n; length > len(b) {
		length = 0
	}
	return status, length, nil
}
