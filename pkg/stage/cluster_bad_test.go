package stage_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/internal/keys"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// frame reads a request or a reply of RESP2, and returns its bytes and the words of a request.
func frame(r *bufio.Reader) (raw []byte, words []string, err error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return nil, nil, err
	}
	raw = line
	n, _ := strconv.Atoi(strings.TrimSpace(string(line[1:])))
	switch line[0] {
	case '*':
		for range n {
			part, word, err := frame(r)
			if err != nil {
				return nil, nil, err
			}
			raw, words = append(raw, part...), append(words, word...)
		}
	case '$':
		if n >= 0 {
			text := make([]byte, n+2)
			if _, err := io.ReadFull(r, text); err != nil {
				return nil, nil, err
			}
			raw, words = append(raw, text...), []string{string(text[:n])}
		}
	}
	return raw, words, nil
}

// proxied starts a proxy before a Redis, and returns its address. refuse says what is answered in
// place of Redis, "" for nothing; "close" ends the connection.
func proxied(t *testing.T, to string, refuse func(words []string) string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	stagetest.OK(t, err)
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	serve := func(c net.Conn) {
		defer c.Close()
		server, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer server.Close()
		in, out := bufio.NewReader(c), bufio.NewReader(server)
		for {
			raw, words, err := frame(in)
			if err != nil {
				return
			}
			answer := []byte(refuse(words))
			if string(answer) == "close" {
				return
			}
			if len(answer) == 0 {
				if _, err := server.Write(raw); err != nil {
					return
				}
				if answer, _, err = frame(out); err != nil {
					return
				}
			}
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	}
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	})
	return l.Addr().String()
}

// A proxy that does not pass scripts with several keys, as Envoy and Twemproxy do not, is named by
// Ping and by the stage.
func TestProxy(t *testing.T) {
	t.Parallel()
	several := func(words []string, says string) string {
		if n, err := strconv.Atoi(words[min(2, len(words)-1)]); strings.HasPrefix(strings.ToLower(words[0]), "eval") && err == nil && n != 1 {
			return "-" + says + "\r\n"
		}
		return ""
	}
	s := stagetest.Real(t)
	for name, refuse := range map[string]func([]string) string{
		"several keys": func(w []string) string { return several(w, "ERR only scripts with one key are supported") },
		"slots": func(w []string) string {
			if strings.EqualFold(w[0], "info") {
				return "-ERR unknown command 'info'\r\n"
			}
			return several(w, "CROSSSLOT Keys in request don't hash to the same slot")
		},
		"closes": func(w []string) string {
			if strings.EqualFold(w[0], "info") {
				return "close"
			}
			return ""
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t, &redis.Options{Addr: proxied(t, s.Addr, refuse)})
			const says = "a proxy such as Envoy or Twemproxy cannot carry a pipeline"
			if err := b.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("Ping: %v, want %q", err, says)
			}
			x, _ := running(t, b, stage.Config{Name: "one", In: "in"}, new(tally).sink())
			stagetest.Eventually(t, "the stage says it", func() bool { err := x.Ready(); return err != nil && strings.Contains(err.Error(), says) })
		})
	}
	if n := s.Client().DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys were written through the proxies", n)
	}
}

// A cluster that one dead master stops is named in the log; a shard whose slot nobody has, by the
// stage, and the others work.
func TestClusterUncovered(t *testing.T) {
	t.Parallel()
	c := stagetest.ShardedOf(t, 3, false, "--cluster-require-full-coverage", "yes")
	var log bytes.Buffer
	first := openCluster(t, c, func(o *stage.Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	stagetest.OK(t, first.Ping(t.Context()))
	if !strings.Contains(log.String(), "set cluster-require-full-coverage to no on each node") {
		t.Errorf("the log says nothing of cluster-require-full-coverage yes: %s", log.String())
	}
	slot := keys.Slots(16)[5]
	for _, s := range c.Servers {
		rdb := s.Client()
		stagetest.OK(t, rdb.ConfigSet(t.Context(), "cluster-require-full-coverage", "no").Err())
		_ = rdb.ClusterDelSlots(t.Context(), slot).Err() // a node may not know whose it is
	}
	x, _ := running(t, openCluster(t, c), stage.Config{Name: "one", In: "in"}, new(tally).sink())
	stagetest.Eventually(t, "the stage says which shard is not served", func() bool {
		return strings.Contains(fmt.Sprint(x.Ready()), "shard 5: CLUSTERDOWN Hash slot not served")
	})
}
