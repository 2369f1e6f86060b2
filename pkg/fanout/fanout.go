// Package fanout asks several things at once and answers with what came, so that the whole takes as long as the slowest
// call and not as long as their sum.
package fanout

import (
	"context"
	"fmt"
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
func Do[T any](ctx context.Context, limit int, calls ...Call[T]) []Answer[T] {
	answers := make([]Answer[T], len(calls))
	if limit == 1 {
		for i, c := range calls {
			answers[i] = c.ask(ctx)
		}
		return answers
	}
	var wg sync.WaitGroup
	if limit <= 0 || limit >= len(calls) {
		for i, c := range calls {
			wg.Go(func() { answers[i] = c.ask(ctx) })
		}
		wg.Wait()
		return answers
	}
	next := make(chan int, len(calls))
	for i := range calls {
		next <- i
	}
	close(next)
	for range limit {
		wg.Go(func() {
			for i := range next {
				answers[i] = calls[i].ask(ctx)
			}
		})
	}
	wg.Wait()
	return answers
}

// ask makes the call and waits for its answer or its deadline.
func (c Call[T]) ask(ctx context.Context) Answer[T] {
	start := time.Now()
	if err := ctx.Err(); err != nil {
		return Answer[T]{Name: c.Name, Err: err}
	}
	var cancel context.CancelFunc = func() {}
	if c.Timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, c.Timeout)
	}
	defer cancel()
	answered := make(chan Answer[T], 1) // who comes too late need not wait
	go func() {
		a := Answer[T]{Name: c.Name}
		defer func() {
			if p := recover(); p != nil {
				a.Err = fmt.Errorf("%s panicked: %v\n%s", c.Name, p, debug.Stack())
			}
			answered <- a
		}()
		a.Value, a.Err = c.Do(ctx)
	}()
	var a Answer[T]
	select {
	case a = <-answered:
	case <-ctx.Done():
		select {
		case a = <-answered: // both at once: what came counts
		default:
			a = Answer[T]{Name: c.Name, Err: ctx.Err()}
		}
	}
	a.Took = time.Since(start)
	return a
}
