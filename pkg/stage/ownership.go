package stage

import (
	"crypto/sha1"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// ownership is one subscriber's view: it decides by message order which messages it adopts.
type ownership struct {
	token     string
	announced announced
	mine      bool
	missing   map[string]bool // in a cluster: nodes whose marker has not come
	odd       int             // announcements that were not true
}

// announced knows which messages to come are in the stream already. counted serves a single Redis,
// whose messages come in one order, and content a Redis Cluster.
type announced interface {
	// announce takes an announcement. untrue is 1 if it, or the one before, cannot be true; after
	// too many, messages may be taken for bare ones, and the adoption has to start over.
	announce(payload string) (untrue int, tooMany bool)
	// take takes a message, and tells whether it was announced.
	take(payload string) bool
	// pong takes the reply to a PING, and returns how many announcements end untrue.
	pong() (untrue int)
}

// kept takes a message of <channel>:kept and tells whether another subscriber owns the channel from
// here on.
func (o *ownership) kept(payload string) (foreign bool) {
	if owner, ok := strings.CutPrefix(payload, "owner:"); ok {
		token, node, _ := strings.Cut(owner, " ")
		if token != o.token {
			o.mine = false
			return true
		}
		delete(o.missing, node)
		o.mine = len(o.missing) == 0
		return false
	}
	untrue, tooMany := o.announced.announce(payload)
	o.odd += untrue
	if tooMany {
		o.mine, o.missing = false, map[string]bool{"": true} // which does not come
	}
	return false
}

// adopts takes a message of the channel and tells whether it is to be adopted.
func (o *ownership) adopts(payload string) bool { return !o.announced.take(payload) && o.mine }

// pong takes the reply to a PING.
func (o *ownership) pong() { o.odd += o.announced.pong() }

// keptMost is how many messages one script may announce.
const keptMost = 1 << 16

// counted knows how many of the next messages are in the stream.
type counted struct {
	skip  int
	pongs int // since the last number
}

func (c *counted) announce(payload string) (untrue int, _ bool) {
	n, err := strconv.Atoi(payload)
	if err != nil || n < 0 {
		return 0, false
	}
	if c.skip > 0 || n > keptMost {
		untrue = 1
	}
	if n <= keptMost {
		c.skip, c.pongs = n, 0
	}
	return untrue, false
}

func (c *counted) take(string) bool {
	if c.skip == 0 {
		return false
	}
	c.skip--
	return true
}

func (c *counted) pong() (untrue int) {
	if c.pongs++; c.pongs >= 2 && c.skip > 0 {
		c.skip, untrue = 0, 1
	}
	return untrue
}

const (
	contentFor  = time.Minute // how long an announced message may take to come
	contentMost = 1 << 20     // messages that were announced and have not come
	markDigits  = 12
)

// mark is a message: the first hex digits of its SHA-1.
type mark [markDigits]byte

func markOf(payload string) (m mark) {
	sum := sha1.Sum([]byte(payload))
	hex.Encode(m[:], sum[:markDigits/2])
	return m
}

// content counts what was announced and has not come, how often each. One that was announced, and
// did not come within one or two spans of contentFor, is forgotten: it was lost between two nodes.
// The time is that of the replies to PING: a process that stood still forgets nothing too early.
type content struct {
	now, before map[mark]int
	span, pongs int // replies in contentFor, and so far
}

// newContent makes one whose contentFor has so many replies to PING.
func newContent(span int) *content { return &content{now: map[mark]int{}, span: span} }

func (c *content) announce(marks string) (untrue int, tooMany bool) {
	if len(marks)%markDigits != 0 || len(marks) > keptMost*markDigits || strings.Trim(marks, "0123456789abcdef") != "" {
		return 1, false
	}
	for ; marks != ""; marks = marks[markDigits:] {
		c.now[mark([]byte(marks[:markDigits]))]++
	}
	if tooMany = len(c.now) > contentMost; tooMany { // somebody forged them
		c.now, c.before = map[mark]int{}, nil
	}
	return 0, tooMany
}

func (c *content) take(payload string) bool {
	m := markOf(payload)
	for _, in := range []map[mark]int{c.before, c.now} {
		if n := in[m]; n > 1 {
			in[m] = n - 1
			return true
		} else if n == 1 {
			delete(in, m)
			return true
		}
	}
	return false
}

func (c *content) pong() (untrue int) {
	if c.pongs++; c.pongs < c.span {
		return 0
	}
	for _, n := range c.before {
		untrue += n
	}
	c.now, c.before, c.pongs = map[mark]int{}, c.now, 0
	return untrue
}
