package stage

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/milepost/milepost/pkg/stage/internal/poison"
)

// Stage is a handler at work on a channel.
type Stage struct {
	b       *Broker
	cfg     Config
	h       Handler
	log     *slog.Logger
	name    string // of the consumer
	lasting bool   // the consumer's name outlives this process
	life    string // a random word: this process, even if the name outlives it
	outputs map[string]int
	m       *stageMetrics

	queue      *queue
	probe      sync.Mutex // one probe at a time
	background sync.WaitGroup

	lanes   atomic.Pointer[[]*lane] // one for each shard; nil until Redis has said how many
	before  gate                    // before there are lanes
	figures sync.Mutex
}

// names are safe in keys, channels, JSON and metric labels.
var names = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)
var channels = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$`)

// New makes a stage; it does nothing until Run. An error names the field of c that cannot work.
func (b *Broker) New(c Config, h Handler) (*Stage, error) {
	def(&c.Writers, 1)
	def(&c.Prefetch, 1024)
	def(&c.Timeout, 30*time.Second)
	def(&c.MaxTries, poison.MaxTries)
	def(&c.BackoffMin, 200*time.Millisecond)
	def(&c.BackoffMax, 5*time.Minute)
	def(&c.Drain, 10*time.Second)
	if c.Workers == 0 {
		c.Workers = 64
		if h.max > 1 {
			c.Workers = 1
		}
	}
	switch {
	case !names.MatchString(c.Name):
		return nil, fmt.Errorf("stage: Config.Name %q: letters, digits, '_', '-' and '.', at most 64", c.Name)
	case !channels.MatchString(c.In):
		return nil, fmt.Errorf("stage %s: Config.In %q is not a channel name", c.Name, c.In)
	case h.call == nil:
		return nil, fmt.Errorf("stage %s: the handler is missing", c.Name)
	case c.Workers < 1 || c.Prefetch < 1 || c.MaxTries < 1:
		return nil, fmt.Errorf("stage %s: Workers %d, Prefetch %d and MaxTries %d must be positive", c.Name, c.Workers, c.Prefetch, c.MaxTries)
	case c.Consumer != "" && !names.MatchString(c.Consumer):
		return nil, fmt.Errorf("stage %s: Config.Consumer %q: letters, digits, '_', '-' and '.', at most 64", c.Name, c.Consumer)
	case c.Writer < 0 || c.Writer >= c.Writers || c.Writers > 1 && c.Consumer == "":
		return nil, fmt.Errorf("stage %s: Config.Writer %d is not in [0, %d), or has no Consumer", c.Name, c.Writer, c.Writers)
	}
	s := &Stage{
		b: b, cfg: c, h: h, log: b.log.With("stage", c.Name),
		name: c.Consumer, lasting: c.Consumer != "", life: newID(),
		outputs: map[string]int{}, m: b.metrics.stage(c.Name),
		queue: newQueue(c.MaxTries),
	}
	s.before.init()
	s.before.shut(starting, "", nil)
	if !s.lasting {
		s.name = consumerName()
	}
	for i, o := range c.Out {
		if _, twice := s.outputs[o.Channel]; twice || !channels.MatchString(o.Channel) || o.Channel == c.In {
			return nil, fmt.Errorf("stage %s: output %q is not a channel name, or stands there twice, or is its own input", c.Name, o.Channel)
		}
		s.outputs[o.Channel] = i + 1
	}
	for _, o := range c.Out {
		b.outs.add(o.Channel)
	}
	b.require(s.needs)
	return s, nil
}

// consumerName is "<host>-<pid>-<random>".
func consumerName() string {
	host, err := os.Hostname()
	if err != nil || !names.MatchString(host) {
		host = "host"
	}
	if len(host) > 40 {
		host = host[:40]
	}
	var r [4]byte
	_, _ = rand.Read(r[:])
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), hex.EncodeToString(r[:]))
}

// Name is the stage's name.
func (s *Stage) Name() string { return s.cfg.Name }

// Ready is nil while the stage works, else it says what it waits for ("redis is away: …", "paused:
// mongo: …"). It does not wait for adoption, which begins a moment later: a test that wants its
// event kept publishes it by a [Publisher].
func (s *Stage) Ready() error {
	if err := s.b.denied(); err != nil {
		return err
	}
	lanes := s.all()
	if lanes == nil {
		return s.before.ready()
	}
	for _, l := range lanes {
		if err := l.gate.ready(); err != nil {
			return err
		}
	}
	return nil
}

// shut adds an obstacle to all lanes, or renews its error, and tells whether it is new.
func (s *Stage) shut(state state, err error) (isNew bool) {
	for _, l := range s.all() {
		isNew = l.gate.shut(state, "", err) || isNew
	}
	return isNew
}

// open removes an obstacle from all lanes.
func (s *Stage) open(state state) {
	for _, l := range s.all() {
		l.gate.open(state, "")
	}
}
