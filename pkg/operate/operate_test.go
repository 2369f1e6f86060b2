package operate_test

import (
	"crypto/tls"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/operate"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

var now = time.UnixMilli(1_795_245_232_000)

// seen is a pipeline of two stages, db behind distance.
func seen(change func(distance, db *inspect.GroupStatus, s *inspect.Seen)) inspect.Seen {
	distance := inspect.GroupStatus{Name: "distance", Consumers: []inspect.ConsumerStatus{{Name: "a-1-00", State: "alive"}}}
	db := inspect.GroupStatus{Name: "db", Consumers: []inspect.ConsumerStatus{{Name: "b-1-00", State: "alive"}}}
	s := inspect.Seen{Overview: inspect.Overview{At: now, Stages: []inspect.StageInfo{
		{Name: "distance", In: "raw_input", Out: []stage.Output{{Channel: "calculated_distance"}}},
		{Name: "db", In: "calculated_distance"},
	}, Channels: []inspect.ChannelStatus{{Channel: "raw_input", Kind: "stream", Adopted: true}, {Channel: "calculated_distance", Kind: "none", Adopted: true}}}}
	change(&distance, &db, &s)
	s.Channels[0].Groups, s.Channels[1].Groups = []inspect.GroupStatus{distance}, []inspect.GroupStatus{db}
	return s
}

// problems has changes of a pipeline in which all is well, and what Problems says of each.
var problems = map[string]struct {
	change func(distance, db *inspect.GroupStatus, s *inspect.Seen)
	want   []string // "! " if urgent, the text, what to do, the command
}{
	"all well": {func(_, _ *inspect.GroupStatus, _ *inspect.Seen) {}, nil},
	"nobody runs it": {func(_, db *inspect.GroupStatus, _ *inspect.Seen) {
		db.Consumers[0].State, db.Backlog, db.Oldest = "gone", 3, now.Add(-150*time.Second)
	}, []string{"! db is not running: no process runs it; 3 events wait, the oldest for 2m30s", "Start it", "tool group list calculated_distance"}},
	"nobody runs it and nothing waits": {func(_, db *inspect.GroupStatus, _ *inspect.Seen) { db.Consumers = nil },
		[]string{"db is not running: no process runs it", "Start it", "tool group retire calculated_distance db"}},
	"a lasting consumer is away": {func(_, db *inspect.GroupStatus, _ *inspect.Seen) { db.Consumers[0].State = "away" },
		[]string{"db is not running: its consumer b-1-00 is away", "Start it", "tool group retire calculated_distance db"}},
	"one of two lasting consumers is away": {func(_, db *inspect.GroupStatus, _ *inspect.Seen) {
		db.Consumers = append(db.Consumers, inspect.ConsumerStatus{Name: "old", State: "away"}, inspect.ConsumerStatus{Name: "j", State: "away", Pending: 2})
	}, []string{"! j of db is not running and holds 2 events", "with its volume", "tool claim calculated_distance db --from j"}},
	"paused": {func(_, db *inspect.GroupStatus, _ *inspect.Seen) {
		db.Consumers[0].Obstacle, db.Consumers[0].Why = "paused", "mongo: refused"
	},
		[]string{"! db is paused: mongo: refused", "continues by itself", ""}},
	"starting": {func(_, db *inspect.GroupStatus, _ *inspect.Seen) { db.Consumers[0].Obstacle = "starting" },
		[]string{"db is waiting: starting", "by itself", ""}},
	"a key of all stages has a wrong type": {func(_, db *inspect.GroupStatus, _ *inspect.Seen) {
		db.Consumers[0].Obstacle, db.Consumers[0].Why = "chores", "redis refuses: WRONGKEY the key heard is a list, not a string"
	},
		[]string{"! db is waiting: redis refuses: WRONGKEY the key heard is a list, not a string", "rename or delete", ""}},
	"no room to adopt": {func(_, db *inspect.GroupStatus, _ *inspect.Seen) {
		db.Consumers[0].Obstacle, db.Consumers[0].Why = "adoption", "redis refuses: OOM command not allowed when used memory > 'maxmemory'."
	},
		[]string{"! db is waiting: adoption: redis refuses: OOM command not allowed when used memory > 'maxmemory'.", "Redis is full", ""}},
	"one replica of two works": {func(_, db *inspect.GroupStatus, _ *inspect.Seen) {
		db.Consumers = append(db.Consumers, inspect.ConsumerStatus{Name: "c", State: "alive", Obstacle: "starting"})
	}, nil},
	"output full": {func(distance, _ *inspect.GroupStatus, _ *inspect.Seen) {
		distance.Consumers[0].Obstacle = "held up"
		distance.Consumers[0].Why = "calculated_distance: too many events are waiting"
	}, []string{"! distance is held up: calculated_distance: too many events are waiting", "when there is room", ""}},
	"behind": {func(distance, _ *inspect.GroupStatus, _ *inspect.Seen) {
		distance.Backlog, distance.Oldest, distance.OldestEvent = 1, now.Add(-2*time.Minute), "ev 1"
	}, []string{"! distance is behind; 1 event waits, the oldest for 2m0s", "add replicas", "tool find 'ev 1'"}},
	"retries": {func(_, _ *inspect.GroupStatus, s *inspect.Seen) {
		s.Channels[1].Due = 2
		s.Retries = []inspect.Retry{{Channel: "calculated_distance", Group: "db", ID: "ev-1", Error: "not today"}, {Channel: "calculated_distance", Group: "db", ID: "ev-2"}}
	}, []string{"2 events of db will be tried again: 1 × no error is known; 1 × not today", "growing pauses", "tool find ev-1"}},
	"dead": {func(_, _ *inspect.GroupStatus, s *inspect.Seen) {
		s.Channels[0].Dead = 1
		s.Dead = []inspect.DeadLetter{{Channel: "raw_input", Group: "distance", Error: "no sense"}}
	}, []string{"! 1 event was set aside by distance: no sense", "replay", "tool dead list raw_input --group distance"}},
	"dead, for several reasons": {func(_, _ *inspect.GroupStatus, s *inspect.Seen) {
		s.Channels[0].Dead = 6
		for _, d := range []inspect.DeadLetter{{ID: "a", Error: "once"}, {ID: "b", Error: "event b: no b"}, {ID: "c", Error: "event c: no c"}, {Error: "x"}, {Error: "y"}, {Error: "x"}} {
			d.Channel, d.Group = "raw_input", "distance"
			s.Dead = append(s.Dead, d)
		}
	}, []string{"! 6 events were set aside by distance: 2 × no …; 2 × x; 1 × once; 1 other reason", "replay", "tool dead list raw_input --group distance"}},
	"not adopted": {func(_, _ *inspect.GroupStatus, s *inspect.Seen) { s.Channels[0].Adopted = false },
		[]string{"no stage adopts bare PUBLISHes on raw_input, so messages of other programs are not kept", "ADOPT=on", ""}},
	"lost": {func(_, db *inspect.GroupStatus, _ *inspect.Seen) { db.Optional, db.Lost = true, 7 },
		[]string{"db is optional and was too far behind: it will never see 7 events", "MAX_BACKLOG", ""}},
	"a foreign group": {func(_, _ *inspect.GroupStatus, s *inspect.Seen) {
		s.Channels[0].Foreign = []inspect.Foreign{{Name: "audit", Backlog: 7}, {Name: "old", Policy: "ignored", Lost: 3}}
	}, []string{"audit, a group of another program on raw_input, has 7 entries to ack: they are kept for it, up to MAX_BACKLOG", "adopt the group", "tool group ignore raw_input audit"}},
	"shards wait": {func(_, db *inspect.GroupStatus, s *inspect.Seen) {
		db.Consumers = append(db.Consumers, inspect.ConsumerStatus{Name: "j", State: "away"})
		for _, writer := range []string{"b-1-00", "j", "b-1-00", "j"} {
			g := *db
			g.Writer, g.Backlog = writer, 3
			s.Shards = append(s.Shards, inspect.ShardStatus{Channels: []inspect.ChannelStatus{{Channel: "calculated_distance", Groups: []inspect.GroupStatus{g}}}})
		}
	}, []string{"! 2 of 4 shards of db belong to j, which is not running; 6 events wait there", "with its volume", "tool claim calculated_distance db --from j"}},
	"a shard has no writer": {func(_, db *inspect.GroupStatus, s *inspect.Seen) {
		for _, writer := range []string{"b-1-00", ""} {
			g := *db
			g.Writer = writer
			s.Shards = append(s.Shards, inspect.ShardStatus{Channels: []inspect.ChannelStatus{{Channel: "calculated_distance", Groups: []inspect.GroupStatus{g}}}})
		}
	}, []string{"! 1 of 2 shards of db have no writer; 0 events wait there", "as many writers as EMAIL_WRITERS", ""}},
	"wrong key": {func(_, _ *inspect.GroupStatus, s *inspect.Seen) {
		s.Channels[0].Wrong = []string{"the key raw_input:due is a string, not a zset"}
	},
		[]string{"! the key raw_input:due is a string, not a zset, so the stages of raw_input wait", "Another program made the key", ""}},
}

func TestProblems(t *testing.T) {
	for name, tc := range problems {
		t.Run(name, func(t *testing.T) {
			got := operate.Problems(seen(tc.change), "tool")
			if tc.want == nil {
				if len(got) != 0 {
					t.Errorf("Problems = %+v, want none", got)
				}
				return
			}
			if len(got) != 1 {
				t.Fatalf("Problems = %+v, want one", got)
			}
			text, urgent := strings.CutPrefix(tc.want[0], "! ")
			if got[0].Text != text || got[0].Urgent != urgent || !strings.Contains(got[0].Do, tc.want[1]) || got[0].Command != tc.want[2] {
				t.Errorf("Problems = %+v, want %q", got[0], tc.want)
			}
		})
	}
}

// Two groups of one channel share its dead letters and retries; what was not looked at may be
// either's.
func TestRowsShare(t *testing.T) {
	s := inspect.Seen{Overview: inspect.Overview{At: now, Channels: []inspect.ChannelStatus{{Channel: "raw_input", Dead: 3, Due: 5,
		Groups: []inspect.GroupStatus{{Name: "distance"}, {Name: "weather"}}}}},
		Dead:    []inspect.DeadLetter{{Channel: "raw_input", Group: "weather"}, {Channel: "raw_input", Group: "weather"}, {Channel: "raw_input", Group: "distance"}},
		Retries: []inspect.Retry{{Channel: "raw_input", Group: "weather"}},
	}
	var got []string
	for _, r := range operate.Rows(s) {
		got = append(got, r.Stage+" "+r.Dead.String()+" "+r.Retrying.String())
	}
	if want := []string{"distance 1 0+", "weather 2 1+"}; !reflect.DeepEqual(got, want) {
		t.Errorf("stage, dead letters, retries: %q, want %q", got, want)
	}
}

func TestTool(t *testing.T) {
	for _, tc := range []struct {
		o    redis.Options
		want string
	}{
		{redis.Options{Addr: "127.0.0.1:6379"}, "milepostctl"},
		{redis.Options{Addr: "127.0.0.1:6390"}, "milepostctl --redis redis://127.0.0.1:6390"},
		{redis.Options{Addr: "redis:6379", DB: 2}, "milepostctl --redis redis://redis:6379/2"},
		{redis.Options{Addr: "redis:6379", Password: "geheim"}, "milepostctl"},
		{redis.Options{Addr: "redis:6379", TLSConfig: &tls.Config{}}, "milepostctl"},
		{redis.Options{Network: "unix", Addr: "/run/redis"}, "milepostctl"},
	} {
		if got := operate.Tool(&tc.o, ""); got != tc.want {
			t.Errorf("Tool(%s, database %d) = %q, want %q", tc.o.Addr, tc.o.DB, got, tc.want)
		}
	}
}

// An event ID that a foreign program made up must not become more than a word of the command.
func TestFindIsOneWord(t *testing.T) {
	for _, id := range []string{"ev-1", "x; echo forged", "$(echo forged)", "it's `echo forged`", `"\`} {
		command := operate.Find("printf %s", id)
		out, err := exec.Command("/bin/sh", "-c", command).Output()
		if err != nil || string(out) != "find"+id {
			t.Errorf("Find of %q is %s, which a shell takes for %q, %v", id, command, out, err)
		}
	}
	for _, id := range []string{"a\nb", "\x1b[2J", ""} {
		if got := operate.Find("tool", id); got != "" {
			t.Errorf("Find of %q = %q, want nothing", id, got)
		}
	}
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", -time.Second: "0s", 1500 * time.Millisecond: "1s", 130 * time.Second: "2m10s", 3700 * time.Second: "1h1m", 76 * time.Hour: "3d4h",
	} {
		if got := operate.Ago(now, now.Add(-d)); got != want {
			t.Errorf("Ago(%s) = %q, want %q", d, got, want)
		}
	}
	if got := operate.Ago(now, time.Time{}); got != "-" {
		t.Errorf("Ago of no time = %q", got)
	}
	for r, want := range map[float64]string{0: "0/s", 0.44: "0.4/s", 12.6: "13/s", 91234: "91234/s"} {
		if got := operate.Rate(&r); got != want {
			t.Errorf("Rate(%v) = %q, want %q", r, got, want)
		}
	}
}
