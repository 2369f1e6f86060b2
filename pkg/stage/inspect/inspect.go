// Package inspect is for tools: it reads the state of a pipeline, finds events, and does what an
// operator decides about dead letters and groups.
package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/internal/link"
)

// Pipeline is a pipeline as tools see it. Its methods are safe for concurrent use. Their errors
// wrap [stage.ErrUnavailable] if Redis is away. On a Redis Cluster they work on all shards, and
// fail if one that they need is away, unless they say otherwise. One that changes something may
// then have changed other shards; it can be repeated.
type Pipeline struct{ b *stage.Broker }

// New uses the connection of b, which must stay open.
func New(b *stage.Broker) *Pipeline { return &Pipeline{b} }

// shardTimeout is how long a shard may take where others suffice.
const shardTimeout = link.CallTimeout / 5

// gather calls f for each link, all at once, and returns the errors in their order.
func gather(links []*link.Link, f func(i int, l *link.Link) error) []error {
	errs := make([]error, len(links))
	if len(links) == 1 {
		errs[0] = f(0, links[0])
		return errs
	}
	var all sync.WaitGroup
	for i, l := range links {
		all.Go(func() { errs[i] = f(i, l) })
	}
	all.Wait()
	return errs
}

// some is gather without the links that have an error in errs already. It adds the new ones there,
// and returns one if no link is left.
func some(ctx context.Context, links []*link.Link, errs []error, f func(ctx context.Context, i int, l *link.Link) error) error {
	now := gather(links, func(i int, l *link.Link) error {
		if errs[i] != nil || len(links) == 1 {
			return cmp.Or(errs[i], f(ctx, i, l))
		}
		call, cancel := context.WithTimeout(ctx, shardTimeout)
		defer cancel()
		err := f(call, i, l)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && !errors.Is(err, stage.ErrUnavailable) {
			err = fmt.Errorf("%w: %s: no answer within %s", stage.ErrUnavailable, l.Name, shardTimeout)
		}
		return err
	})
	copy(errs, now)
	for _, err := range errs {
		if err != nil && !errors.Is(err, stage.ErrUnavailable) {
			return err
		}
	}
	for _, err := range errs {
		if err == nil {
			return nil
		}
	}
	return errs[0]
}

// mark adds the shard, of n, to an entry ID: two shards may have the same. 1763697600000-0/3 is of
// shard 3.
func mark(entry string, shard, n int) string {
	if n == 1 {
		return entry
	}
	return entry + "/" + strconv.Itoa(shard)
}

// unmark is the entry ID, and its shard of n: -1 if there is no such shard.
func unmark(marked string, n int) (entry string, shard int) {
	entry, text, ok := strings.Cut(marked, "/")
	if n == 1 && !ok {
		return entry, 0
	}
	shard, err := strconv.Atoi(text)
	if err != nil || shard < 0 || shard >= n {
		return entry, -1
	}
	return entry, shard
}

// ofShard are the entry IDs of a shard of n.
func ofShard(marked []string, shard, n int) (ids []string) {
	for _, m := range marked {
		if entry, i := unmark(m, n); i == shard {
			ids = append(ids, entry)
		}
	}
	return ids
}

// merged are the first count of all, in the order of compare.
func merged[T any](all [][]T, count int, compare func(a, b T) int) []T {
	if len(all) == 1 {
		return all[0]
	}
	out := slices.Concat(all...)
	slices.SortStableFunc(out, compare)
	return out[:min(len(out), count)]
}

// total calls f for each of n shards, all at once, and returns the sum, and the first error.
func (p *Pipeline) total(ctx context.Context, f func(i, n int, l *link.Link) (int, error)) (sum int, err error) {
	links, err := p.b.Shards(ctx)
	if err != nil {
		return 0, err
	}
	counts := make([]int, len(links))
	errs := gather(links, func(i int, l *link.Link) (err error) {
		counts[i], err = f(i, len(links), l)
		return err
	})
	for _, n := range counts {
		sum += n
	}
	return sum, cmp.Or(errs...)
}
