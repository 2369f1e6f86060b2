// Package db is the stage that stores each result as a document and passes the address on.
package db

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/telemetry"
)

// Store is the collection of documents; [records.Store] is one.
type Store interface {
	// InsertMany stores records and returns an error for each: nil if the record is stored, now
	// or by an earlier delivery of its event.
	InsertMany(ctx context.Context, r []records.Record) []error
	EnsureIndexes(ctx context.Context, log *slog.Logger) error
	Ping(ctx context.Context) error
}

type Deps struct {
	Broker *stage.Broker
	Store  Store
	Tuning config.Tuning
	Log    *slog.Logger
	Admin  *telemetry.Admin
}

// maxBatch is how many results one insert stores.
const maxBatch = 256

// Run works on calculated_distance until ctx ends, then drains. It waits while Redis or the store
// is away.
func Run(ctx context.Context, d Deps) error {
	h := Handler{Store: d.Store}
	s, err := d.Broker.New(d.Tuning.Apply(stage.Config{
		Name:  "db",
		In:    event.CalculatedDistance,
		Out:   []stage.Output{{Channel: event.UserEmail}},
		Probe: d.Store.Ping,
	}), stage.Batch(maxBatch, h.Handle))
	if err != nil {
		return err
	}
	d.Admin.Watch(s.Name(), s.Ready)
	indexing, stop := context.WithCancel(ctx)
	indexed := make(chan error, 1)
	go func() { indexed <- d.Store.EnsureIndexes(indexing, d.Log) }() // waits for the store
	err = s.Run(ctx)
	stop()
	if ierr := <-indexed; ierr != nil && !errors.Is(ierr, context.Canceled) {
		d.Log.Warn("indexes are missing; look-ups by address are slow", "err", ierr)
	}
	return err
}

type Handler struct {
	Store Store
	Now   func() time.Time // default: time.Now
}

// Handle stores each result under its event ID, the idempotency key: an event that comes again
// finds its own document and counts as done. A result that the store refuses for good is a dead
// letter; an outage pauses the stage.
func (h *Handler) Handle(ctx context.Context, in []stage.Event[event.Result]) []stage.Result {
	now := time.Now
	if h.Now != nil {
		now = h.Now
	}
	batch := make([]records.Record, len(in))
	for i, e := range in {
		batch[i] = records.Record{
			ID: e.ID, Email: string(e.Body.Email), Miles: e.Body.Miles, Lat: string(e.Body.Lat), Long: string(e.Body.Long),
			SubmittedAt: e.At, StoredAt: now(),
		}
		if m := e.Body.Email.Mailbox(); m != batch[i].Email {
			batch[i].Mailbox = m
		}
	}
	out := make([]stage.Result, len(in))
	for i, err := range h.Store.InsertMany(ctx, batch) {
		switch {
		case err == nil:
			out[i].Out = []stage.Message{{Body: in[i].Body.Email}}
		case errors.Is(err, records.ErrRefused):
			out[i].Err = stage.Permanent(err)
		case records.Down(err):
			out[i].Err = stage.Down(err)
		default:
			out[i].Err = err
		}
	}
	return out
}
