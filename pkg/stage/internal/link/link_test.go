package link

import (
	"errors"
	"io"
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
