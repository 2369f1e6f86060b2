package milepostctl

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/records"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

const addressMost = 100

type known struct {
	ID          string    `json:"id"`
	SubmittedAt time.Time `json:"submitted_at"`
	State       string    `json:"state"` // stored, or set aside
	Why         string    `json:"why,omitempty"`
}

// ofAddress lists the events of an address, the newest first. docs may be nil.
func (t *tool) ofAddress(ctx context.Context, p pipeline, docs *records.Store, email string) error {
	var all []known
	if docs != nil {
		stored, err := docs.History(ctx, email, records.Place{}, addressMost)
		if err != nil {
			return err
		}
		for _, r := range stored {
			all = append(all, known{r.ID, r.SubmittedAt, "stored", ""})
		}
	}
	for d, err := range p.letters(ctx, filter{}) {
		if err != nil {
			return err
		}
		if event.Address(addressIn(d.Payload)).Mailbox() == event.Address(email).Mailbox() {
			all = append(all, known{d.ID, d.At, inspect.Aside, d.Group + ": " + d.Error})
		}
	}
	slices.SortStableFunc(all, func(a, b known) int { return cmp.Or(b.SubmittedAt.Compare(a.SubmittedAt), cmp.Compare(a.ID, b.ID)) })
	switch {
	case len(all) == 0 && docs == nil:
		return fmt.Errorf("no dead letter of this address (--mongo looks for documents too): %w", stage.ErrNotFound)
	case len(all) == 0:
		return fmt.Errorf("no document and no dead letter of this address: %w", stage.ErrNotFound)
	}
	l := listing{tool: t}
	for _, k := range all {
		l.add(k, visible(k.ID), clock(k.SubmittedAt), k.State, cmp.Or(printable(k.Why), "-"))
	}
	return l.end("", []string{"EVENT", "SUBMITTED", "WHERE", "WHY"}, "WHY")
}

// addressIn is the address in a payload: all of it, or its key email.
func addressIn(payload []byte) string {
	var in struct{ Email string }
	if json.Unmarshal(payload, &in) == nil {
		return in.Email
	}
	return string(payload)
}
