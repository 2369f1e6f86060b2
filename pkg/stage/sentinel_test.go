package stage_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// TestSentinelBadInput: what is wrong with Sentinel or the replicas is said in one sentence, and
// waited out. All servers speak TLS, with an authority of their own, and want passwords.
func TestSentinelBadInput(t *testing.T) {
	t.Parallel()
	certificates := stagetest.NewCertificates(t)
	c := stagetest.Replication{Certificates: &certificates, Password: "redis-secret", SentinelPassword: "sentinel-secret"}.Start(t)
	closed := "127.0.0.1:1"
	good := func() *redis.FailoverOptions {
		o, err := redis.ParseFailoverURL(c.URL())
		stagetest.OK(t, err)
		o.TLSConfig = certificates.Client(t)
		return o
	}
	for name, tc := range map[string]struct {
		change func(*redis.FailoverOptions)
		plain  *redis.Options // a single Redis instead
		wait   int
		want   string // "" if all is well
	}{
		"all is well":                 {wait: 2},
		"two Sentinels away":          {change: func(o *redis.FailoverOptions) { o.SentinelAddrs[1], o.SentinelAddrs[2] = closed, closed }},
		"a Sentinel without address":  {change: func(o *redis.FailoverOptions) { o.SentinelAddrs[0] = "sentinel.invalid:26379" }},
		"no Sentinel":                 {change: func(o *redis.FailoverOptions) { o.SentinelAddrs = []string{closed} }, want: "no Sentinel answers: "},
		"unknown master":              {change: func(o *redis.FailoverOptions) { o.MasterName = "other" }, want: `Sentinel knows no master "other"; check master_name in the URL`},
		"wrong password for Sentinel": {change: func(o *redis.FailoverOptions) { o.SentinelPassword = "x" }, want: "Sentinel refuses the password"},
		"no password for Sentinel":    {change: func(o *redis.FailoverOptions) { o.SentinelPassword = "" }, want: "Sentinel refuses the password"},
		"wrong password for Redis":    {change: func(o *redis.FailoverOptions) { o.Password = "x" }, want: "WRONGPASS"},
		"no password for Redis":       {change: func(o *redis.FailoverOptions) { o.Password = "" }, want: "NOAUTH"},
		"another authority":           {change: func(o *redis.FailoverOptions) { o.TLSConfig = stagetest.NewCertificates(t).Client(t) }, want: "certificate signed by unknown authority"},
		"no TLS":                      {change: func(o *redis.FailoverOptions) { o.TLSConfig = nil }, want: "no Sentinel answers: "},
		"more than the replicas":      {wait: 3, want: "replicas that follow the master: 2; WAIT_REPLICAS: 3"},
		"a Sentinel as a Redis":       {plain: c.Sentinels[0].Options(), want: "this is a Sentinel; name its master in the URL"},
		"a Redis as a Sentinel": {change: func(o *redis.FailoverOptions) {
			o.SentinelAddrs, o.SentinelPassword = []string{c.Servers[0].Addr}, o.Password
		}, want: c.Servers[0].Addr + " is no Sentinel"},
	} {
		t.Run(name, func(t *testing.T) {
			f := good()
			if tc.change != nil {
				tc.change(f)
			}
			o := stage.Sentinel(f)
			if tc.plain != nil {
				o = tc.plain
			}
			b := open(t, o, func(o *stage.Options) { o.WaitReplicas = tc.wait })
			var err error
			defer func() { t.Logf("Ping = %v", err) }()
			stagetest.Eventually(t, "Ping says "+tc.want, func() bool {
				err = b.Ping(t.Context())
				return err == nil && tc.want == "" || err != nil && tc.want != "" && strings.Contains(err.Error(), tc.want)
			})
			if err != nil && (!errors.Is(err, stage.ErrUnavailable) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("Ping = %v; want one line, an outage", err)
			}
		})
	}
}

// TestSentinelMinority: fewer than a majority of the Sentinels do not lead back to an older master,
// and an old master's connections are closed though it answers, a subscription's too.
func TestSentinelMinority(t *testing.T) {
	t.Parallel()
	c := stagetest.Replicated(t)
	f, err := redis.ParseFailoverURL(c.URL())
	stagetest.OK(t, err)
	o := stage.Sentinel(f)
	o.MaxRetries = -1
	rdb := stagetest.Client(t, o)
	sub := rdb.Subscribe(t.Context(), "channel")
	defer sub.Close()
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	blocked := make(chan error, 1)
	go func() { blocked <- rdb.BLPop(context.Background(), 0, "nothing").Err() }()
	next := c.Switch()
	if err := <-blocked; err == nil {
		t.Error("a blocked read outlived its master")
	}
	if _, err := sub.ReceiveTimeout(t.Context(), time.Minute); err == nil {
		t.Error("a subscription outlived its master")
	}
	for i := range 2 {
		c.Sentinels[i].Kill()
	}
	i := slices.IndexFunc(c.Servers, func(s *stagetest.Server) bool { return s == next })
	stagetest.Eventually(t, "the new master is found by one Sentinel", func() bool {
		port, err := rdb.ConfigGet(t.Context(), "port").Result()
		return err == nil && strings.HasSuffix(c.Servers[i].Addr, ":"+port["port"])
	})
}
