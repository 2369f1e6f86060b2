package stage

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/internal/link"
)

const (
	sentinelTimeout = time.Second // of a question to one Sentinel
	sentinelEvery   = time.Second // between questions while there are connections
)

// Sentinel returns the options of a client whose connections go to the master that Redis Sentinel
// names. Of o it takes the master's name, the Sentinels and their credentials, TLS for both, and
// the user, password and database of Redis. It does not connect.
//
// go-redis' own failover client asks one Sentinel. It keeps that one for as long as its calls end
// by their context, so the loss of a machine with the master and this Sentinel can cut it off for
// ever; and it leaves subscriptions and blocked reads at the old master. This one asks all
// Sentinels at each connect, and each second while it has connections. It believes the newest of
// the answers of a majority. Connections to an old master are closed at once, whatever they are
// waiting for.
func Sentinel(o *redis.FailoverOptions) *redis.Options {
	s := &sentinels{opt: o, tls: anyServer(o.TLSConfig), members: map[*member]struct{}{}}
	return &redis.Options{
		Addr:     fmt.Sprintf("master %s of Sentinel %s", o.MasterName, strings.Join(o.SentinelAddrs, ", ")),
		Username: o.Username, Password: o.Password, DB: o.DB, TLSConfig: s.tls, PoolSize: o.PoolSize, Dialer: s.dial,
	}
}

// sentinels finds the master for the connections of the clients that share its options. Between the
// first connection and the last it has connections to the Sentinels, and a goroutine that asks
// them.
type sentinels struct {
	opt *redis.FailoverOptions
	tls *tls.Config

	mu      sync.Mutex
	clients []*redis.SentinelClient // nil while there are no members
	end     context.CancelFunc
	members map[*member]struct{}
	master  masterAt
}

// masterAt is the master's address as a Sentinel knows it. A later failover has a greater epoch.
type masterAt struct {
	addr  string
	epoch int64
	err   error
}

// dial connects to the master.
func (s *sentinels) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := &member{stop: cancel}
	clients := s.enter(m)
	master, err := s.find(ctx, clients)
	if err != nil {
		s.leave(m)
		return nil, err
	}
	s.mu.Lock()
	m.addr = master.addr
	s.mu.Unlock()
	s.follow(master)
	conn, err := connect(ctx, network, m.addr, s.tls)
	if err != nil {
		s.leave(m)
		return nil, fmt.Errorf("the master that Sentinel names: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.addr != s.master.addr {
		delete(s.members, m)
		return nil, errors.Join(fmt.Errorf("%s is no longer the master", m.addr), conn.Close())
	}
	m.stop = func() { _ = conn.Close() } // whoever uses it gets the error
	return closing(conn, sync.OnceFunc(func() { s.leave(m) })), nil
}

// enter adds a member and returns clients of the Sentinels.
func (s *sentinels) enter(m *member) []*redis.SentinelClient {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members[m] = struct{}{}
	if s.clients == nil {
		for _, addr := range s.opt.SentinelAddrs {
			s.clients = append(s.clients, redis.NewSentinelClient(&redis.Options{
				Addr: addr, Username: s.opt.SentinelUsername, Password: s.opt.SentinelPassword, TLSConfig: s.tls,
				Protocol: 2, MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true, DisableIdentity: true,
				DialTimeout: sentinelTimeout, ReadTimeout: sentinelTimeout, WriteTimeout: sentinelTimeout,
			}))
		}
		ctx, end := context.WithCancel(context.Background())
		s.end = end
		go s.watch(ctx, s.clients)
	}
	return s.clients
}

// leave removes a member. With the last one, watch ends.
func (s *sentinels) leave(m *member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.members, m)
	if len(s.members) == 0 && s.clients != nil {
		s.end()
		s.clients = nil
	}
}

// watch asks the Sentinels until ctx ends, and then closes their clients.
func (s *sentinels) watch(ctx context.Context, clients []*redis.SentinelClient) {
	tick := time.NewTicker(sentinelEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			for _, c := range clients {
				_ = c.Close() // nothing was written
			}
			return
		case <-tick.C:
			if master, err := s.find(ctx, clients); err == nil {
				s.follow(master)
			}
		}
	}
}

// follow makes addr the master, and closes what is connected to another one.
func (s *sentinels) follow(master masterAt) {
	s.mu.Lock()
	s.master = master
	var stop []func()
	for m := range s.members {
		if m.addr != "" && m.addr != master.addr {
			stop = append(stop, m.stop)
		}
	}
	s.mu.Unlock()
	for _, f := range stop {
		f()
	}
}

// find asks all Sentinels at once and returns the newest answer, as soon as a majority has
// answered. Fewer are believed too, but not that the master is an older one than the one known.
func (s *sentinels) find(ctx context.Context, clients []*redis.SentinelClient) (masterAt, error) {
	ctx, cancel := context.WithTimeout(ctx, sentinelTimeout)
	defer cancel()
	answers := make(chan masterAt, len(clients))
	for i, c := range clients {
		go func() { answers <- s.ask(ctx, c, s.opt.SentinelAddrs[i]) }()
	}
	var best masterAt
	var wrong []string
	good := 0
	for range clients {
		a := <-answers
		if a.err != nil {
			if text := a.err.Error(); !slices.Contains(wrong, text) {
				wrong = append(wrong, text)
			}
			continue
		}
		if best.addr == "" || a.epoch > best.epoch {
			best = a
		}
		if good++; good > len(clients)/2 {
			return best, nil
		}
	}
	if good == 0 {
		return best, errors.New(strings.Join(wrong, "; "))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if best.epoch < s.master.epoch {
		best = s.master
	}
	return best, nil
}

// ask asks the Sentinel at at. Its error wraps none of the Sentinel's, which are not the master's.
func (s *sentinels) ask(ctx context.Context, c *redis.SentinelClient, at string) (a masterAt) {
	addr, err := c.GetMasterAddrByName(ctx, s.opt.MasterName).Result()
	switch {
	case errors.Is(err, redis.Nil):
		a.err = fmt.Errorf("Sentinel knows no master %q; check master_name in the URL", s.opt.MasterName)
	case err != nil && link.Denied(err):
		a.err = fmt.Errorf("Sentinel refuses the password, which is the one before @ in the URL: %v", err)
	case err != nil && strings.Contains(err.Error(), "unknown command"):
		a.err = fmt.Errorf("%s is no Sentinel, which usually has port 26379", at)
	case err != nil:
		a.err = fmt.Errorf("no Sentinel answers: %v", err)
	case len(addr) != 2:
		a.err = fmt.Errorf("Sentinel names the master %q", addr)
	}
	if a.err != nil {
		return a
	}
	a.addr = net.JoinHostPort(addr[0], addr[1])
	about, err := c.Master(ctx, s.opt.MasterName).Result()
	if err != nil && !link.Denied(err) { // without the right to ask, all are of the same age
		a.err = fmt.Errorf("no Sentinel answers: %v", err)
	}
	a.epoch, _ = strconv.ParseInt(about["config-epoch"], 10, 64)
	return a
}
