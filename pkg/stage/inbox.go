package stage

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/milepost/milepost/pkg/stage/internal/script"
)

const (
	adoptMost  = 128      // messages in one script call
	adoptBytes = 64 << 20 // bytes of messages that wait in memory
)

// inbox holds messages on their way into a shard's stream.
type inbox struct {
	*shard
	*gathering[adopted]
	number int // of the last batch
}

type adopted struct {
	id, payload, traceparent string
	size                     int // of the payload, if it is too large and only its begin is here; else 0
}

func (m *adopted) bytes() int { return len(m.payload) }

// add never waits: Redis ends a subscription whose messages are not taken. Over adoptBytes a
// message is dropped and counted.
func (a *adoption) add(payload string) {
	m := adopted{payload: payload}
	if n := len(payload); n > entryMost {
		m.id, m.payload, m.size = newID(), strings.Clone(payload[:entryMost]), n
	} else {
		m.id = adoptedID(payload)
	}
	if a.bytes.Add(int64(len(m.payload))) > adoptBytes {
		a.bytes.Add(-int64(len(m.payload)))
		a.lane.m.dropped.Inc()
		a.lane.log.Error("a bare publish was dropped: too many wait for redis", "channel", a.lane.cfg.In)
		return
	}
	m.traceparent = a.lane.adopted(m.id)
	a.inbox[ShardOf(m.id, len(a.inbox))].add(m)
}

// write adds messages to the stream until the inbox is closed and empty, or ctx ends.
func (a *adoption) write(ctx context.Context, b *inbox) {
	for {
		batch := b.take()
		if len(batch) == 0 {
			return
		}
		b.number++
		args, large, bytes := []any{b.number, a.lane.cfg.Name, b.maxDead, len(batch)}, 0, 0
		for _, m := range batch {
			size := ""
			if m.size > 0 {
				size = strconv.Itoa(m.size)
				large++
				a.lane.log.Error("a bare publish was set aside: it is too large", "channel", a.lane.cfg.In, "event", m.id, "bytes", m.size)
			}
			args = append(args, m.id, m.payload, m.traceparent, size)
			bytes += len(m.payload)
		}
		if !a.writeBatch(ctx, b, args) {
			a.lane.m.dropped.Add(float64(len(batch)))
			a.lane.log.Error("bare publishes were dropped: redis is away and this process ends", "channel", a.lane.cfg.In, "messages", len(batch))
			return
		}
		a.lane.m.adopted.Add(float64(len(batch) - large))
		a.lane.m.deadN.Add(float64(large))
		b.done(batch)
		a.bytes.Add(-int64(bytes))
	}
}

// writeBatch runs the script until Redis has answered. False when ctx ended first.
func (a *adoption) writeBatch(ctx context.Context, b *inbox, args []any) bool {
	in, k := a.lane.cfg.In, b.keys
	var wait backoff
	for {
		_, err := b.link.Run(ctx, script.Adopt, []string{k.Stream(in), k.Adopted(in, a.order.token)}, args...)
		if err == nil {
			if a.lane.gate.open(noRoom, b.String()) {
				a.lane.log.Info("adopting again", "channel", a.lane.cfg.In)
			}
			return true
		}
		if errors.Is(err, ErrRefused) && a.lane.gate.shut(noRoom, b.String(), err) {
			a.lane.log.Warn("bare publishes wait", "channel", a.lane.cfg.In, "err", err)
		}
		if !wait.wait(ctx) {
			return false
		}
	}
}

// adoptedID is the payload's own "id" if that is a UUID, else a new one.
func adoptedID(payload string) string {
	if strings.HasPrefix(strings.TrimSpace(payload), "{") {
		var p struct {
			ID string `json:"id"`
		}
		if json.Unmarshal([]byte(payload), &p) == nil {
			if id, err := uuid.Parse(p.ID); err == nil {
				return id.String()
			}
		}
	}
	return newID()
}
