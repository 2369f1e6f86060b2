package fanout_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/milepost/milepost/pkg/fanout"
)

// after is a call that takes so long.
func after(seconds float64) fanout.Call[float64] {
	return fanout.Call[float64]{Name: fmt.Sprint(seconds), Do: func(ctx context.Context) (float64, error) {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(time.Duration(seconds * float64(time.Second))):
			return seconds, nil
		}
	}}
}

// The four calls of the documents take 1.25 s one after the other and 0.5 s at once.
func TestTakesAsLongAsTheSlowest(t *testing.T) {
	for limit, want := range map[int]time.Duration{0: 500, 1: 1250, 2: 750, 4: 500, 9: 500} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			answers := fanout.Do(t.Context(), limit, after(0.125), after(0.25), after(0.375), after(0.5))
			if took := time.Since(start); took != want*time.Millisecond {
				t.Errorf("limit %d took %s, want %s", limit, took, want*time.Millisecond)
			}
			for i, a := range answers {
				want := 0.125 * float64(i+1)
				if a.Err != nil || a.Value != want || a.Name != fmt.Sprint(want) || a.Took != time.Duration(want*float64(time.Second)) {
					t.Errorf("limit %d, answer %d = %+v; want %v", limit, i, a, want)
				}
			}
		})
	}
}

// Each call has its own deadline, and one that fails leaves the others alone.
func TestPartialAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		slow, deaf := after(5), after(0)
		slow.Timeout = time.Second
		end := make(chan struct{})
		deaf.Timeout, deaf.Do = 2*time.Second, func(context.Context) (float64, error) {
			<-end
			return 1, nil
		}
		start := time.Now()
		answers := fanout.Do(t.Context(), 0, after(1.5), slow, deaf,
			fanout.Call[float64]{Do: func(context.Context) (float64, error) { return 0, broken }},
			fanout.Call[float64]{Name: "bad", Do: func(context.Context) (float64, error) { panic("x") }})
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("took %s; want 2s, the longest deadline", took)
		}
		close(end)
		if a := answers[0]; a.Err != nil || a.Value != 1.5 {
			t.Errorf("the call in time: %+v", a)
		}
		for i, want := range map[int]error{1: context.DeadlineExceeded, 2: context.DeadlineExceeded, 3: broken} {
			if !errors.Is(answers[i].Err, want) {
				t.Errorf("answer %d: %v, want %v", i, answers[i].Err, want)
			}
		}
		if answers[4].Err == nil {
			t.Error("a call that panics has no error")
		}
	})
}

func TestCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for _, a := range fanout.Do(ctx, 1, after(3), after(3)) {
			if !errors.Is(a.Err, context.DeadlineExceeded) {
				t.Errorf("answer after the caller's deadline: %+v", a)
			}
		}
		if answers := fanout.Do[int](ctx, 0); len(answers) != 0 {
			t.Errorf("no calls: %v", answers)
		}
	})
}
