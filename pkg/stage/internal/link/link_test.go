package link

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// TestCheck: an outage is told from a refusal, and both from a mistake in a command.
func TestCheck(t *testing.T) {
	for err, want := range map[error]error{
		Reply("NOGROUP No such key 'in' or consumer group 's'"):              nil,
		Reply("WRONGTYPE Operation against a key"):                           ErrRefused,
		Reply("WRONGKEY the key in:due is a string, not a zset"):             ErrRefused,
		Reply("OOM command not allowed when used memory > 'maxmemory'."):     ErrRefused,
		Reply("LOADING Redis is loading the dataset in memory"):              ErrUnavailable,
		Reply("UNKILLABLE Sorry the script already executed write commands"): ErrUnavailable,
		Reply("MASTERDOWN Link with MASTER is down"):                         ErrUnavailable,
		Reply("ERR max number of clients reached"):                           ErrUnavailable,
		Reply("ERR WAIT cannot be used with replica instances."):             ErrUnavailable,
		Reply("UNBLOCKED force unblock from blocking operation"):             ErrUnavailable,
		Reply("READONLY You can't write against a read only replica."):       ErrUnavailable,
		Reply("NOREPLICAS Not enough good replicas to write."):               ErrUnavailable,
		io.EOF:                    ErrUnavailable,
		errors.New("not a reply"): ErrUnavailable,
		redis.ErrClosed:           nil,
	} {
		got := new(Link).Check(t.Context(), err)
		for _, kind := range []error{ErrUnavailable, ErrRefused} {
			if errors.Is(got, kind) != (kind == want) {
				t.Errorf("Check(%v) = %v, want %v", err, got, want)
			}
		}
		if !errors.Is(got, err) {
			t.Errorf("Check(%v) = %v, which hides its cause", err, got)
		}
	}
}

// TestWithin: that Redis takes too long is an outage, the end of the caller's context is not.
func TestWithin(t *testing.T) {
	caller, end := context.WithTimeout(t.Context(), 0)
	defer end()
	client := redis.NewClient(&redis.Options{TLSConfig: new(tls.Config)})
	defer client.Close()
	l := &Link{Client: func() *redis.Client { return client }}
	for name, x := range map[string]struct {
		caller context.Context
		away   bool
	}{"slow": {t.Context(), true}, "ended": {caller, false}} {
		outer, cancel := Within(x.caller, 0)
		defer cancel()
		inner, cancel := Within(outer, CallTimeout)
		defer cancel()
		got := l.Check(inner, inner.Err())
		if errors.Is(got, ErrUnavailable) != x.away || !errors.Is(got, context.DeadlineExceeded) || strings.Contains(got.Error(), "TLS") != x.away {
			t.Errorf("%s: Check = %v", name, got)
		}
	}
}
