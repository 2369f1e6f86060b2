package link

import (
	"errors"
	"io"
	"testing"

	"github.com/redis/go-redis/v9"
)

type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

// TestAway: refusals that pass are told from those that need something done.
func TestAway(t *testing.T) {
	for err, want := range map[error]bool{
		reply("NOGROUP No such key 'in' or consumer group 's'"):              false,
		reply("WRONGTYPE Operation against a key"):                           false,
		reply("LOADING Redis is loading the dataset in memory"):              true,
		reply("UNKILLABLE Sorry the script already executed write commands"): true,
		reply("MASTERDOWN Link with MASTER is down"):                         true,
		reply("OOM command not allowed when used memory > 'maxmemory'."):     true,
		reply("ERR max number of clients reached"):                           true,
		reply("ERR WAIT cannot be used with replica instances."):             true,
		reply("UNBLOCKED force unblock from blocking operation"):             true,
		reply("READONLY You can't write against a read only replica."):       true,
		reply("NOREPLICAS Not enough good replicas to write."):               true,
		io.EOF:                    true,
		errors.New("not a reply"): true,
		redis.ErrClosed:           false,
	} {
		if got := Away(err); got != want {
			t.Errorf("Away(%v) = %v, want %v", err, got, want)
		}
	}
}
