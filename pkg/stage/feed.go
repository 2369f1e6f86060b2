package stage

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/internal/keys"
	"github.com/milepost/milepost/pkg/stage/internal/link"
)

// Adoption in a Redis Cluster. Every node passes on what is published at any other one. A
// subscriber gets the messages of one node in the order in which they were published there, but
// those of another node in between. So a number does not say which messages are in the stream
// already, and one marker does not say where an adoption begins:
//
//   - A script announces each message by its content, the first 12 hex digits of its SHA-1. The
//     adopter counts what was announced and has not come.
//   - The marker is published at each node. An adopter adopts nothing until its marker has come
//     from all nodes. Before that, a message's announcement may have passed before it subscribed.
//   - The first foreign marker from any node ends an adoption. A message comes after the markers of
//     its own node, at each subscriber in the same order. So no message has two adopters.
//   - If the nodes change, an adopter starts over. Between two adoptions bare messages are lost, as
//     while nobody listens. None is added twice.
//
// The lease is in shard 0. What is adopted goes to the shard of its event ID.
//
// The sharded channel of the same name, on which others SPUBLISH, is a second feed. It has one
// master, so one order, and nothing in it is in the stream already. Its lease and marker are in its
// own slot. When that moves, Redis ends the subscription. The tick does not see this lease: a
// candidate looks for it, and the adopter renews it, once a lease. The marker of each renewal shows
// that the subscription lives.

// feed is a Pub/Sub channel whose messages are adopted.
type feed struct {
	lane       *lane
	what       string     // the command that its messages come from
	link       *link.Link // to the lease
	keys       []string   // of script.Lease
	live, kept string     // the channel, and that of its announcements and markers
	marker     string     // the command by which script.Lease publishes the marker; "": mark does
	lasts      time.Duration
	pings      time.Duration // between two PINGs; 0: the marker is often enough
	free       chan struct{} // told when nobody may adopt
	token      *atomic.Value // string: of the adoption, "" if there is none

	bytes   atomic.Int64 // that wait in inboxes
	writers sync.WaitGroup
}

// feeds are those of the stage's input. The lane is that of the first shard.
func (l *lane) feeds() []*feed {
	in, k, lease := l.cfg.In, l.keys, l.b.opt.Lease
	f := &feed{lane: l, what: "PUBLISH", link: l.link, keys: []string{k.Adopter(in), k.Stream(in)}, live: k.Live(in), kept: k.Kept(in),
		marker: "PUBLISH", lasts: lease, pings: lease / 2, free: l.free, token: &l.token}
	if l.cluster == nil {
		return []*feed{f}
	}
	f.marker, f.pings = "", lease
	n := l.keys.Sharded(in)
	slot := keys.Slot(n.Base)
	sharded := &feed{lane: l, what: "SPUBLISH", keys: []string{n.Adopter("")}, live: k.Live(in), kept: n.Stream(":kept"), marker: "SPUBLISH", lasts: 2 * lease,
		free: make(chan struct{}, 1), token: new(atomic.Value)}
	sharded.token.Store("")
	sharded.link = &link.Link{Client: func() *redis.Client { return l.cluster.owner(slot).client }, Keys: n, Lost: l.cluster.lost}
	return []*feed{f, sharded}
}

// offer says that nobody may adopt.
func (f *feed) offer() { nudge(f.free) }

// look offers a sharded channel once a lease, if nobody has it or its lease is to be renewed.
func (f *feed) look(ctx context.Context) {
	t := time.NewTicker(f.lane.b.opt.Lease)
	defer t.Stop()
	for {
		if f.token.Load() != "" {
			f.offer()
		} else if err := f.link.Client().Get(ctx, f.keys[0]).Err(); err == redis.Nil {
			f.offer()
		} else {
			_ = f.link.Check(ctx, err) // another master may have it
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// send subscribes, in a cluster at any master, and returns the channels.
func (a *adoption) send(live context.Context) []string {
	to := []string{a.live, a.kept, a.lane.keys.Adopters(a.lane.cfg.In)}
	if a.lane.cluster == nil {
		a.order.announced = new(counted)
		a.sub = a.link.Client().Subscribe(live, to...)
		return to
	}
	a.order.announced = newContent(int(contentFor/a.lane.b.opt.Lease) + 1)
	if a.marker == "SPUBLISH" {
		to = []string{a.live, a.kept}
		a.sub = a.link.Client().SSubscribe(live, to...)
		return to
	}
	masters := a.lane.cluster.masters()
	a.at = masters[rand.IntN(len(masters))]
	a.sub = a.at.client.Subscribe(live, to...)
	return to
}

// announce publishes the marker at all nodes.
func (a *adoption) announce(ctx context.Context) (err error) {
	if a.marker != "" {
		return nil // script.Lease did
	}
	if a.nodes, err = a.lane.cluster.view(ctx, a.at); err != nil {
		return err
	}
	a.order.missing = map[string]bool{}
	errs := make(chan error, len(a.nodes))
	for _, n := range a.nodes {
		a.order.missing[n.addr] = true
		go func() {
			call, cancel := context.WithTimeout(ctx, loadTimeout)
			defer cancel()
			errs <- n.ticks.Publish(call, a.kept, "owner:"+a.order.token+" "+n.addr).Err()
		}()
	}
	for range a.nodes {
		err = errors.Join(err, <-errs)
	}
	return err
}

// watch closes the subscription if a marker does not come, or the nodes change.
func (a *adoption) watch(ctx context.Context) {
	t := time.NewTicker(a.lane.b.opt.Lease)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		nodes, err := a.lane.cluster.view(ctx, a.at)
		switch {
		case err != nil:
		case !slices.Equal(nodes, a.nodes):
			err = errors.New("the nodes of the cluster changed")
		case !a.owns.Load():
			err = errors.New("a marker did not come")
		}
		if err != nil && ctx.Err() == nil {
			a.lane.log.Warn("adoption starts over", "channel", a.lane.cfg.In, "of", a.what, "err", err)
			_ = a.sub.Close()
			return
		}
	}
}
