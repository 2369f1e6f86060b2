package stage

import (
	"context"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/internal/link"
)

// eras tells apart the histories of Redis' data. A failover may lose the last writes, and a new
// entry may get the ID of a lost one. So what was read in one era must not be settled in the next:
// the consumer drops what it holds, and reads what is pending for it. The master's replication ID
// names the era. A server that restarts has a new one, too, and goes on with the era, since it
// keeps its data; one that was a replica still has the ID of its last master.
type eras struct {
	mu   sync.Mutex
	id   string
	last int // number of the era
}

// of returns the number of a connection's era, and whether it is a new one. A Redis that does not
// tell, such as an embedded one, has one era.
func (e *eras) of(ctx context.Context, conn *redis.Conn) (era int, began bool, err error) {
	info, err := conn.Info(ctx, "replication").Result()
	field := func(name string) string {
		_, value, _ := strings.Cut(info, "\n"+name+":")
		value, _, _ = strings.Cut(value, "\r")
		return value
	}
	id := field("master_replid")
	e.mu.Lock()
	defer e.mu.Unlock()
	if id != "" && id != e.id {
		began = e.id != "" && strings.Trim(field("master_replid2"), "0") != ""
		e.id = id
		if began {
			e.last++
		}
	}
	return e.last, began, err
}

// now is the number of the newest era.
func (e *eras) now() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}

// eraOf returns the number of a connection's era. In a new one, the stage forgets what it holds;
// what handlers return for it is dropped when it is to be settled.
func (l *lane) eraOf(ctx context.Context, conn *redis.Conn) (int, error) {
	ctx, cancel := link.Within(ctx, callTimeout)
	defer cancel()
	era, began, err := l.eras.of(ctx, conn)
	if began {
		l.log.Warn("redis has a new master; starting over with what is pending")
		l.hand.drop(era)
		l.queue.drop(l, era)
	}
	if err != nil && !link.Away(err) { // an embedded Redis does not know the section
		err = nil
	}
	return era, l.link.Check(ctx, err)
}
