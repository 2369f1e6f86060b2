package stage

import (
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/internal/entry"
	"github.com/milepost/milepost/pkg/stage/internal/keys"
	"github.com/milepost/milepost/pkg/stage/internal/link"
	"github.com/milepost/milepost/pkg/stage/internal/script"
	"github.com/milepost/milepost/pkg/stage/stagetest"
)

// call is a script that has something to write.
type call struct {
	name   string
	script *redis.Script
	keys   []string
	args   []any
}

// calls are one for each script that writes, in an order in which each finds something to do.
func calls(k keys.Names, settled string) []call {
	in := k.Stream("in")
	return []call{
		{"rights", script.Rights, nil, []any{"get a"}},
		{"join", script.Join, []string{in, k.Groups("in"), k.Floors("in"), k.Stages(), k.Consumer("s", "new")}, []any{"s", "new", "required", 60000, "{}", "", "1"}},
		{"publish", script.Publish, []string{in, k.Idempotency("new"), k.Limit("l")}, []any{100, "edge", "0", 1, newID(), "x", 1, "1", "", "1", 2, "d", 1, 3, 9, 1000}},
		{"limit", script.Limit, []string{k.Limit("l")}, []any{1, 9, 60000}},
		{"settle", script.Settle, []string{in, k.Groups("in"), k.Due("in"), k.Stream("out")}, []any{"s", "c", 100, 10, "0", 1, 0, 1, settled, "1", newID(), 1, "y"}},
		{"alone", script.Alone, []string{k.Groups("in")}, []any{"s", "c", "1-1", newID()}},
		{"tick", script.Tick, []string{in, k.Consumer("s", "c"), k.Adopter("in")}, []any{"s", "c", 60000, "", 100, 10, 5, 100, "", "", "1", 0}},
		{"lease", script.Lease, []string{k.Adopter("in"), in}, []any{newID(), 60000, "", ""}},
		{"adopt", script.Adopt, []string{in, k.Adopted("in", "token")}, []any{7, "s", 10, 2, newID(), "x", "", "", newID(), "y", "", 70000}},
		{"writer", script.Writer, []string{in, k.Groups("in")}, []any{"s", "c", "take"}},
		{"replay", script.Replay, []string{in, k.Dead("in")}, []any{"1-1"}},
		{"decide", script.Decide, []string{in, k.Groups("in")}, []any{"foreign", "required"}},
		{"skip", script.Skip, []string{in, k.Groups("in")}, []any{"foreign"}},
		{"retire", script.Retire, []string{in, k.Groups("in"), k.Floors("in"), k.Stages()}, []any{"foreign"}},
		{"leave", script.Leave, []string{in}, []any{"s", "c", 10, 10}},
	}
}

// TestClusterScripts: while a slot moves, with one key more moved each time, no script that fails
// has written anything. When the slot has moved, each script does its work.
func TestClusterScripts(t *testing.T) {
	t.Parallel()
	c := stagetest.ShardedOf(t, 2, false)
	k := keys.Shards("", 1)[0]
	for _, in := range []keys.Names{k, k.Sharded("in")} {
		slot := keys.Slot(in.Base)
		from := c.Master(slot)
		to := c.Servers[1-slices.Index(c.Servers, from)]
		nodes := []*redis.Client{from.Client(), to.Client()}
		at := nodes[0]
		l := &link.Link{Client: func() *redis.Client { return at }, Keys: in}
		var all []call
		if in == k {
			all = calls(k, fill(t, k, nodes[0]))
			covered(t, all)
		} else {
			all = []call{{"lease of the sharded channel", script.Lease, []string{in.Adopter("")}, []any{"token", 60000, "SPUBLISH", in.Stream(":kept")}}}
			stagetest.OK(t, run(t, l, all[0]))
		}
		moving, err := nodes[0].ClusterGetKeysInSlot(t.Context(), slot, 100).Result()
		if err != nil || len(moving) == 0 {
			t.Fatalf("keys in slot %d: %q, %v", slot, moving, err)
		}
		slices.Sort(moving)
		c.Begin(slot, to)
		for i := range len(moving) + 1 {
			for _, node := range nodes {
				at = node
				for _, x := range all {
					before := contents(t, nodes, slot)
					if run(t, l, x) == nil {
						t.Errorf("%s ran while its slot moved", x.name)
					} else if after := contents(t, nodes, slot); !maps.Equal(before, after) {
						t.Errorf("%s failed after %d of %d keys had moved, but wrote", x.name, i, len(moving))
					}
				}
			}
			if i < len(moving) {
				c.MoveKey(moving[i], from, to)
			}
		}
		c.End(slot, from, to)
		at = nodes[1]
		for _, x := range all {
			before := contents(t, nodes, slot)
			if err := run(t, l, x); err != nil {
				t.Errorf("%s after its slot moved: %v", x.name, err)
			}
			if x.name != "rights" && in == k && maps.Equal(before, contents(t, nodes, slot)) {
				t.Errorf("%s wrote nothing after its slot had moved", x.name)
			}
		}
	}
}

func run(t *testing.T, l *link.Link, x call) error {
	_, err := l.RunUnchecked(t.Context(), x.script, x.keys, x.args...)
	return err
}

// covered: each file of a script that writes has a call.
func covered(t *testing.T, all []call) {
	t.Helper()
	files, err := os.ReadDir("internal/script/lua")
	stagetest.OK(t, err)
	for _, f := range files {
		name := strings.TrimSuffix(f.Name(), ".lua")
		if name != "common" && name != "status" && name != "kinds" && !slices.ContainsFunc(all, func(x call) bool { return x.name == name }) {
			t.Errorf("no call of %s", f.Name())
		}
	}
}

// fill makes what the scripts find: a group with entries pending for c and for one that is gone, a
// retry that is due, a dead letter 1-1, a group of another program. It returns an entry that is
// pending for c.
func fill(t *testing.T, k keys.Names, rdb *redis.Client) string {
	t.Helper()
	ctx, in := context.Background(), k.Stream("in")
	pipe := rdb.Pipeline()
	for _, body := range []string{"a", "b", "c"} {
		pipe.XAdd(ctx, &redis.XAddArgs{Stream: in, Values: []string{"payload", body, "id", newID(), "at", "1"}})
	}
	pipe.XGroupCreate(ctx, in, "s", "0")
	pipe.XGroupCreate(ctx, in, "foreign", "0")
	pipe.HSet(ctx, k.Groups("in"), "policy:s", "required", "done:s", 0)
	pipe.HSet(ctx, k.Floors("in"), "s", "0-0")
	pipe.HSet(ctx, k.Stages(), "s", "{}")
	pipe.Set(ctx, k.Consumer("s", "c"), "1", 0)
	pipe.Set(ctx, k.Idempotency("old"), "id digest", 0)
	pipe.Set(ctx, k.Limit("l"), "1", 0)
	pipe.Set(ctx, k.Heard(), "1 1 0", 0)
	pipe.Set(ctx, k.Adopted("in", "token"), "1", 0)
	pipe.ZAdd(ctx, k.Due("in"), redis.Z{Score: 1, Member: entry.Pack(nil, "payload", "due", "id", newID(), "at", "1")})
	pipe.XAdd(ctx, &redis.XAddArgs{Stream: k.Dead("in"), ID: "1-1", Values: []string{"payload", "x", "id", newID(), "group", "s"}})
	pipe.XAdd(ctx, &redis.XAddArgs{Stream: k.Stream("out"), Values: []string{"payload", "x"}})
	gone := pipe.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "s", Consumer: "gone", Streams: []string{in, ">"}, Count: 1, Block: -1})
	mine := pipe.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "s", Consumer: "c", Streams: []string{in, ">"}, Count: 2, Block: -1})
	if _, err := pipe.Exec(ctx); err != nil || len(gone.Val()) != 1 {
		t.Fatalf("fill: %v", err)
	}
	return mine.Val()[0].Messages[0].ID
}

// contents are all keys of a slot on the nodes, with their values.
func contents(t *testing.T, nodes []*redis.Client, slot int) map[string]string {
	t.Helper()
	all := map[string]string{}
	for i, rdb := range nodes {
		found, err := rdb.ClusterGetKeysInSlot(t.Context(), slot, 100).Result()
		stagetest.OK(t, err)
		for _, key := range found {
			pipe := rdb.Pipeline()
			pipe.Do(t.Context(), "asking") // on the target
			value := pipe.Dump(t.Context(), key)
			if _, err := pipe.Exec(t.Context()); err != nil && err != redis.Nil {
				t.Fatalf("DUMP %s on node %d: %v", key, i, err)
			}
			all[key] += value.Val()
		}
	}
	return all
}
