// Package fanout asks several things at once and answers with what came, so that the whole takes as long as the slowest
// call and not as long as their sum.
package fanout

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// Call is one thing to ask.
type Call[T any] struct {
	Name    string
	Timeout time.Duration // of this call, from its own start; 0 for none but ctx's
	Do      func(context.Context) (T, error)
}

// Answer is what came of a call.
type Answer[T any] struct {
	Name  string
	Value T
	Err   error
	Took  time.Duration // from its own start
}

// Do makes the calls, limit of them at a time (1: one after the other; 0: all at once), and returns their answers in
// the order of the calls. Each has a deadline of its own within ctx's. A call that does not heed its context is left behind
// at its deadline, and a panic is an error of its call.
//
// The calls begin in their order, so the one that usually takes longest is best named first. Between two of them others that
// have work get their turn: when many fan out at the same moment, the first calls of all begin before the second ones.
func Do[T any](ctx context.Context, limit int, calls ...Call[T]) []Answer[T] {
	answers := make([]Answer[T], len(calls))
	if limit <= 0 || limit >= len(calls) && limit > 1 {
		begun := make([]under[T], len(calls))
		for i, c := range calls {
			if i > 0 {
				runtime.Gosched()
			}
			begun[i] = c.begin(ctx)
		}
		for i, u := range begun {
			answers[i] = u.wait()
		}
		return answers
	}
	next := make(chan int, len(calls))
	for i := range calls {
		next <- i
	}
	close(next)
	var wg sync.WaitGroup
	for range limit {
		wg.Go(func() {
			for i := range next {
				answers[i] = calls[i].begin(ctx).wait()
			}
		})
	}
	wg.Wait()
	return answers
}

// under is a call under way.
type under[T any] struct {
	name     string
	ctx      context.Context
	cancel   context.CancelFunc
	began    time.Time
	answered chan Answer[T] // with room for the answer: who comes too late need not wait
}

func (c Call[T]) begin(ctx context.Context) under[T] {
	u := under[T]{name: c.Name, ctx: ctx, cancel: func() {}, began: time.Now(), answered: make(chan Answer[T], 1)}
	if ctx.Err() != nil {
		return u
	}
	if c.Timeout > 0 {
		u.ctx, u.cancel = context.WithTimeout(ctx, c.Timeout)
	}
	go func() {
		a := Answer[T]{Name: c.Name}
		defer func() {
			if p := recover(); p != nil {
				a.Err = fmt.Errorf("%s panicked: %v\n%s", c.Name, p, debug.Stack())
			}
			a.Took = time.Since(u.began)
			u.answered <- a
		}()
		a.Value, a.Err = c.Do(u.ctx)
	}()
	return u
}

// wait waits for the answer or the deadline. What came counts, also if both are there.
func (u under[T]) wait() Answer[T] {
	defer u.cancel()
	select {
	case a := <-u.answered:
		return a
	case <-u.ctx.Done():
	}
	select {
	case a := <-u.answered:
		return a
	default:
		return Answer[T]{Name: u.name, Err: u.ctx.Err(), Took: time.Since(u.began)}
	}
}
