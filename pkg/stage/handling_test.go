package stage_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/redistest"
	"github.com/milepost/milepost/pkg/stage"
)

// An event that spoils each batch it is in, by a panic or by an error for all, ends as a dead letter, and those that were in
// its batches are handled.
func TestBatchPoison(t *testing.T) {
	for name, spoil := range map[string]func(in []stage.Event[string]) []stage.Result{
		"panic":           func([]stage.Event[string]) []stage.Result { panic("poison") },
		"too few results": func(in []stage.Event[string]) []stage.Result { return make([]stage.Result, len(in)-1) },
		"error for all": func(in []stage.Event[string]) []stage.Result {
			return slices.Repeat([]stage.Result{{Err: errors.New("refused")}}, len(in))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t, redistest.Embedded(t))
			ids := publish(t, publisher(t, b, "in"), append(numbered("good ", 50), "poison")...)
			var got tally
			start(t, b, stage.Config{Name: "s", In: "in", MaxTries: 4, BackoffMin: time.Millisecond, BackoffMax: time.Millisecond},
				stage.Batch(128, func(_ context.Context, in []stage.Event[string]) []stage.Result {
					if slices.ContainsFunc(in, func(e stage.Event[string]) bool { return e.Body == "poison" }) {
						return spoil(in)
					}
					for _, e := range in {
						got.add(e.ID, e.Body)
					}
					return make([]stage.Result, len(in))
				}))
			eventually(t, "all are settled", func() bool {
				c, err := b.Status(t.Context(), "in")
				return err == nil && c.Groups[0].Backlog == 0 && c.Due == 0
			})
			got.once(t, ids[:50])
			letters, err := b.DeadLetters(t.Context(), "in", "", 100)
			if err != nil || len(letters) != 1 || letters[0].ID != ids[50] || letters[0].Tries != 4 {
				t.Errorf("%d dead letters, %v; want the poison alone, after 4 tries", len(letters), err)
			}
		})
	}
}
