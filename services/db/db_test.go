package db_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"testing"
	"time"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/services/db"
)

// store answers each record by its ID.
type store map[string]error

func (s store) InsertMany(_ context.Context, in []records.Record) []error {
	out := make([]error, len(in))
	for i, r := range in {
		out[i] = s[r.ID]
	}
	return out
}
func (store) EnsureIndexes(context.Context, *slog.Logger) error { return nil }
func (store) Ping(context.Context) error                        { return nil }

func TestHandle(t *testing.T) {
	h := db.Handler{Store: store{
		"refused": fmt.Errorf("insert: %w", records.ErrRefused),
		"down":    fmt.Errorf("insert: %w", net.ErrClosed),
	}}
	var in []stage.Event[event.Result]
	for _, id := range []string{"stored", "refused", "down"} {
		in = append(in, stage.Event[event.Result]{ID: id, Body: event.Result{Email: event.Address(id + "@example.com"), Miles: 1}})
	}
	got := h.Handle(t.Context(), in)
	if want := []stage.Message{{Body: event.Address("stored@example.com")}}; got[0].Err != nil || !reflect.DeepEqual(got[0].Out, want) {
		t.Errorf("a stored result = %+v, want it forwarded as %+v", got[0], want)
	}
	for i, want := range map[int]error{1: stage.ErrPermanent, 2: stage.ErrDown} {
		if !errors.Is(got[i].Err, want) || got[i].Out != nil {
			t.Errorf("result %q = %+v, want an error that is %v and no output", in[i].ID, got[i], want)
		}
	}
}

// recording keeps what is inserted.
type recording struct {
	store
	got []records.Record
}

func (r *recording) InsertMany(_ context.Context, in []records.Record) []error {
	r.got = append(r.got, in...)
	return make([]error, len(in))
}

func TestHandleKeepsEverything(t *testing.T) {
	at, now := time.UnixMilli(1_700_000_000_000), time.UnixMilli(1_700_000_000_500)
	r := &recording{}
	h := db.Handler{Store: r, Now: func() time.Time { return now }}
	h.Handle(t.Context(), []stage.Event[event.Result]{{ID: "ev-1", At: at, Body: event.Result{Email: "ada@example.com", Miles: 2216.07, Lat: "51.5", Long: "-0.1"}}})
	want := []records.Record{{ID: "ev-1", Email: "ada@example.com", Miles: 2216.07, Lat: "51.5", Long: "-0.1", SubmittedAt: at, StoredAt: now}}
	if !reflect.DeepEqual(r.got, want) {
		t.Errorf("inserted %+v, want %+v", r.got, want)
	}
}
