package doctor

import (
	"context"
	"errors"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

// server is a Redis with its INFO and CONFIG, as far as it tells them.
type server struct {
	rdb          *redis.Client
	err          error // why it does not answer; then nothing else is known
	info, config map[string]string
	silent       error // why config is incomplete
}

// server connects and reads both. Examine closes it.
func (x *examination) server(ctx context.Context, o *redis.Options) *server {
	c := *o
	c.DialTimeout, c.ReadTimeout, c.MaxRetries, c.DialerRetries, c.ContextTimeoutEnabled = x.Timeout, x.Timeout, -1, 1, true
	s := &server{rdb: redis.NewClient(&c), info: map[string]string{}}
	x.asked = append(x.asked, s)
	if s.err = s.rdb.Ping(ctx).Err(); s.err != nil {
		if c.TLSConfig != nil && speaksPlain(ctx, c) {
			s.err = errors.New("the server speaks no TLS")
		}
		return s
	}
	text, _ := s.rdb.Info(ctx).Result() // without it, much is unknown
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			s.info[name] = value
		}
	}
	if s.info["redis_mode"] == "sentinel" {
		s.err = errors.New("it is a Sentinel")
		return s
	}
	if s.config, s.silent = s.rdb.ConfigGet(ctx, "*").Result(); s.silent != nil {
		s.config = map[string]string{} // INFO has some of it
		for name, value := range map[string]string{
			"appendonly": map[string]string{"0": "no", "1": "yes"}[s.info["aof_enabled"]],
			"maxmemory":  s.info["maxmemory"], "maxmemory-policy": s.info["maxmemory_policy"],
		} {
			if value != "" {
				s.config[name] = value
			}
		}
	}
	return s
}

// speaksPlain tells whether a server that does not answer with TLS answers without. No credentials
// are sent.
func speaksPlain(ctx context.Context, o redis.Options) bool {
	o.TLSConfig, o.Username, o.Password, o.DB = nil, "", "", 0
	rdb := redis.NewClient(&o)
	defer func() { _ = rdb.Close() }() // nothing was written
	err := rdb.Ping(ctx).Err()
	return err == nil || errors.As(err, new(redis.Error))
}

// at is how to connect to one node, with the pipeline's credentials.
func (x *examination) at(addr string) *redis.Options {
	o := *x.Redis
	o.Addr, o.Dialer = addr, nil
	if o.TLSConfig != nil { // the certificate is of this node
		o.TLSConfig = o.TLSConfig.Clone()
		o.TLSConfig.ServerName, _, _ = net.SplitHostPort(addr)
	}
	return &o
}

// nodes checks that each node answers. It returns those that do.
func (x *examination) nodes(ctx context.Context, addrs []string) (all []*server) {
	for _, addr := range addrs {
		s := x.server(ctx, x.at(addr))
		a := judge("it is a "+s.info["role"], s.info["role"] != "slave" || s.info["master_link_status"] == "up", Failed,
			"It does not follow its master. Look at its log: masterauth and masteruser must be the master's password and user.")
		switch {
		case redis.HasErrorPrefix(s.err, "NOAUTH"), redis.HasErrorPrefix(s.err, "WRONGPASS"):
			a = answer{Failed, s.err.Error(), "Give all nodes the same users and passwords: requirepass or ACL SETUSER, and masterauth."}
		case s.err != nil:
			a = answer{Failed, s.err.Error(), remedy(s.err, "REDIS", s.rdb.Options())}
		default:
			all = append(all, s)
		}
		x.add("node "+addr, "Each node may become the master, so each must answer with the same user and password, and follow its master.", a)
	}
	return all
}
