package stage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/internal/link"
	"github.com/milepost/milepost/pkg/stage/internal/script"
)

// Only a lasting consumer knows what it has done. So in a Redis Cluster each shard of its stage
// belongs to one of them, the shard's writer, and only that one reads there. Config.Writers says
// which shards a consumer wants. It takes a wanted one that is free, and reads as soon as all
// replicas of the master know of it. When it stops, it gives its shards up: each once nothing there
// is pending for it, and all replicas have everything that it settled. So no failover shows its
// events to the next writer. While a replica is away, the shard stays with its writer; so it does
// if the process is killed.

const (
	giveEvery  = time.Second     // how long a writer reads on between two attempts to give up a shard
	giveWithin = 3 * time.Second // how long a writer that stops tries it
)

// divided tells whether the shard belongs to one consumer.
func (l *lane) divided() bool { return l.lasting && l.cluster != nil }

// wanted tells whether this consumer is to have the shard.
func (l *lane) wanted() bool { return l.index%l.cfg.Writers == l.cfg.Writer }

// told takes in whom the shard belongs to, "" for no one.
func (l *lane) told(writer string) {
	l.writer.Store(&writer)
	nudge(l.news)
}

func (l *lane) ownedSince() (at time.Time) {
	if ms := l.since.Load(); ms > 0 {
		at = time.UnixMilli(ms)
	}
	return at
}

// owns tells whether the shard belongs to this consumer, as far as is known.
func (l *lane) owns() bool { w := l.writer.Load(); return w != nil && *w == l.name }

// readOwn reads while the shard belongs to this consumer, until ctx ends.
func (l *lane) readOwn(ctx context.Context, starts int) {
	for failed := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-l.news:
		}
		writer := *l.writer.Load()
		if writer != l.name && !l.wanted() {
			continue
		}
		if writer != l.name && writer != "" {
			l.gate.shut(elsewhere, "", fmt.Errorf("shard %d belongs to %s", l.index, writer))
			continue
		}
		err := l.takeAndRead(ctx, starts)
		if err != nil && ctx.Err() == nil && !failed {
			l.log.Warn("the shard cannot change its writer yet", "shard", l.index, "err", err)
		}
		failed = err != nil
	}
}

// takeAndRead takes the shard and reads there. A shard that is wanted is read until it belongs to
// another or ctx ends. One that is not wanted was this consumer's in an earlier life, and is read
// until it is given up.
func (l *lane) takeAndRead(ctx context.Context, starts int) error {
	if err := l.take(ctx); err != nil {
		if !errors.Is(err, errElsewhere) {
			l.gate.shut(copying, "", err)
		}
		return err
	}
	l.gate.open(elsewhere, "")
	l.gate.open(copying, "")
	if !l.wanted() {
		reading, stop := context.WithTimeout(ctx, giveEvery)
		defer stop()
		l.readLoop(reading, starts)
		l.hand.empty(ctx)
		return l.give(ctx)
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	reading, stop := context.WithCancel(ctx)
	defer stop()
	watching.Go(func() {
		for reading.Err() == nil {
			select {
			case <-reading.Done():
			case <-l.news:
				if !l.owns() {
					stop()
				}
			}
		}
	})
	l.readLoop(reading, starts)
	return nil
}

// readRest reads what is pending and not in hand, before the drain: as after a failover, when this
// consumer stops before it has read that anew. Else the shard could not be given up.
func (l *lane) readRest(ctx context.Context) {
	if !l.owns() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, giveWithin)
	defer cancel()
	conn := l.link.Client().Conn()
	defer conn.Close()
	if era, err := l.eraOf(ctx, conn); err == nil {
		_ = l.pendingPass(ctx, conn, era, false) // after an error the shard stays with this writer
	}
}

var errElsewhere = errors.New("the shard belongs to another writer")

// take makes the shard this consumer's if it is free and wanted. It returns nil once all replicas
// know of that.
func (l *lane) take(ctx context.Context) error {
	what := "look"
	if l.wanted() {
		what = "take"
	}
	r, missing, err := l.everywhere(ctx, what)
	if err == nil && r.State == "taking" {
		if missing != nil {
			return missing
		}
		r, err = l.change(ctx, "keep")
	}
	if err != nil {
		return err
	}
	if r.State != "mine" {
		return fmt.Errorf("%w: %s", errElsewhere, cmp.Or(r.Writer, r.State))
	}
	l.since.Store(r.Since)
	l.told(l.name)
	return nil
}

// give gives the shard up. Nothing of it is in hand or being read. On an error the shard stays with
// this consumer.
func (l *lane) give(ctx context.Context) error {
	r, missing, err := l.everywhere(ctx, "check")
	if err == nil && r.State == "mine" {
		if err = missing; err == nil {
			r, err = l.change(ctx, "free")
		}
	}
	switch {
	case err != nil:
		return err
	case r.State == "pending":
		return errors.New("entries that it has read there are not settled")
	}
	l.told("")
	return nil
}

// giveBefore tries for so long to give the shard up: a replica may only be slow.
func (l *lane) giveBefore(ctx context.Context, patience time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for wait := (backoff{}); ; {
		failed := l.give(ctx)
		if failed == nil {
			return nil
		}
		if ctx.Err() == nil {
			err = failed
		}
		if !wait.wait(ctx) {
			return cmp.Or(err, failed)
		}
	}
}

// writerReply is the script's reply, as its header says.
type writerReply struct {
	State, Writer string
	Since         int64
}

// change runs the script.
func (l *lane) change(ctx context.Context, what string) (r writerReply, err error) {
	err = l.link.RunJSON(ctx, &r, script.Writer, []string{l.keys.Stream(l.cfg.In), l.keys.Groups(l.cfg.In)}, l.cfg.Name, l.name, what)
	return r, err
}

// everywhere runs the script, and asks whether all replicas that the master has, or had, hold
// everything up to there. missing says how many do not.
func (l *lane) everywhere(ctx context.Context, what string) (r writerReply, missing, err error) {
	var nodes, info *redis.StringCmd
	_, err = l.link.Client().Pipelined(ctx, func(p redis.Pipeliner) error {
		nodes, info = p.ClusterNodes(ctx), p.Info(ctx, "replication")
		return nil
	})
	if err := l.link.Check(ctx, err); err != nil {
		return r, nil, err
	}
	all := max(replicas(nodes.Val()), strings.Count(info.Val(), "\nslave")) // a new one may be in one of them only
	reply, copied, err := l.link.RunCopied(ctx, all, l.b.opt.WaitTimeout, script.Writer,
		[]string{l.keys.Stream(l.cfg.In), l.keys.Groups(l.cfg.In)}, l.cfg.Name, l.name, what)
	if copied < all {
		missing = fmt.Errorf("%s: %d of its master's %d replicas have what was written there; the others must come back, or be removed by CLUSTER FORGET", l.shard, copied, all)
	}
	if err == nil {
		err = link.Decode(reply, &r)
	}
	return r, missing, err
}

// replicas counts those of the node that answered CLUSTER NODES, also the ones that are away.
func replicas(nodes string) (n int) {
	lines := strings.Split(nodes, "\n")
	own := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "myself,") })
	if own < 0 {
		return 0
	}
	id, _, _ := strings.Cut(lines[own], " ")
	for _, l := range lines {
		if f := strings.Fields(l); len(f) > 3 && f[3] == id {
			n++
		}
	}
	return n
}

// Shards says which shards of a Redis Cluster this consumer has, if they belong to one consumer
// each, and whose are waiting: those whose writer is not running, or that have none. It is "" if
// there is nothing to say.
func (s *Stage) Shards() string {
	var own, free []string
	waiting := map[string][]string{}
	lanes := s.all()
	for _, l := range lanes {
		w := l.writer.Load()
		index := fmt.Sprint(l.index)
		switch {
		case w == nil:
		case *w == s.name:
			own = append(own, index)
		case *w == "":
			free = append(free, index)
		case l.waits.Load():
			waiting[*w] = append(waiting[*w], index)
		}
	}
	if s.cfg.Writers < 2 || !slices.ContainsFunc(lanes, (*lane).divided) {
		return ""
	}
	text := fmt.Sprintf("writer %d of %d, %d of %d shards", s.cfg.Writer, s.cfg.Writers, len(own), len(lanes))
	if len(free) > 0 {
		text += "; no writer has " + shardList(free)
	}
	for _, w := range slices.Sorted(maps.Keys(waiting)) {
		text += fmt.Sprintf("; not running: %s, whose %s", w, shardList(waiting[w]))
		text += map[bool]string{true: " waits", false: " wait"}[len(waiting[w]) == 1]
	}
	return text
}

func shardList(numbers []string) string {
	if len(numbers) == 1 {
		return "shard " + numbers[0]
	}
	return "shards " + strings.Join(numbers, " ")
}
