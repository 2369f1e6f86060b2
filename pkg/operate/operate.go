// Package operate turns what an [inspect.Observer] sees into what a person on call needs: a row for
// each stage, what is wrong, and the command that helps. The tool and the status page share it.
package operate

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/stage/inspect"
)

const (
	Running    = "running"
	NotRunning = "not running"
	Paused     = "paused"  // what it depends on is down
	HeldUp     = "held up" // an output is full
	Busy       = "waiting" // for what Why says, such as Redis
)

// Row is a stage at work on a channel.
type Row struct {
	Stage       string    `json:"stage"`
	Channel     string    `json:"channel"`
	Optional    bool      `json:"optional"`
	State       string    `json:"state"`
	Why         string    `json:"why,omitempty"` // it is not running
	Backlog     int       `json:"backlog"`       // entries it has not settled
	Pending     int       `json:"pending"`       // of these, delivered to a consumer
	Retrying    Count     `json:"retrying"`      // events due again later
	Oldest      time.Time `json:"oldest,omitzero"`
	OldestEvent string    `json:"oldest_event,omitempty"`
	Rate        *float64  `json:"rate"` // entries settled a second; null if it was not looked at twice
	Consumers   int       `json:"consumers"`
	Dead        Count     `json:"dead"`
	Lost        int       `json:"lost,omitempty"`
}

// Count is a number that may be larger, if not everything was looked at.
type Count struct {
	N    int  `json:"n"`
	More bool `json:"more,omitempty"`
}

// String is "3", or "3+" if there may be more.
func (c Count) String() string {
	if c.More {
		return fmt.Sprintf("%d+", c.N)
	}
	return fmt.Sprint(c.N)
}

// Rows lists the stages in the order in which an event passes them.
func Rows(s inspect.Seen) []Row {
	var rows []Row
	for _, c := range s.Channels {
		for _, g := range c.Groups {
			r := Row{
				Stage: g.Name, Channel: c.Channel, Optional: g.Optional, Backlog: g.Backlog, Pending: g.Pending, Oldest: g.Oldest,
				OldestEvent: g.OldestEvent, Rate: g.Rate, Lost: g.Lost,
			}
			r.State, r.Why, r.Consumers = state(g)
			r.Dead.N, r.Dead.More = s.DeadOf(c.Channel, g.Name)
			r.Retrying.N, r.Retrying.More = s.RetriesOf(c.Channel, g.Name)
			if len(c.Groups) == 1 { // all are its own, looked at or not
				r.Dead, r.Retrying = Count{N: c.Dead}, Count{N: c.Due}
			}
			rows = append(rows, r)
		}
	}
	place := func(r Row) int {
		return slices.IndexFunc(s.Stages, func(i inspect.StageInfo) bool { return i.Name == r.Stage })
	}
	slices.SortStableFunc(rows, func(a, b Row) int { return place(a) - place(b) })
	return rows
}

// state says how a group is. It works as long as one of its consumers does.
func state(g inspect.GroupStatus) (state, why string, alive int) {
	state, why = NotRunning, "no process runs it"
	for _, c := range g.Consumers {
		if c.State == "away" && alive == 0 {
			why = fmt.Sprintf("its consumer %s is away", c.Name)
		}
		if c.State != "alive" {
			continue
		}
		alive++
		switch {
		case c.Obstacle == "":
			state, why = Running, ""
		case state == Running:
		case c.Obstacle == Paused, c.Obstacle == HeldUp:
			state, why = c.Obstacle, c.Why
		default:
			state, why = Busy, strings.TrimSuffix(c.Obstacle+": "+c.Why, ": ")
			if c.Why != "" && (c.Obstacle == "redis" || c.Obstacle == "chores") {
				why = c.Why // says it all: "redis refuses: …"
			}
		}
	}
	return state, why, alive
}

// Problem is something that an operator should know.
type Problem struct {
	Stage   string `json:"stage,omitempty"`
	Channel string `json:"channel,omitempty"`
	Urgent  bool   `json:"urgent"` // events wait, or were set aside; else worth a look
	Text    string `json:"text"`
	Do      string `json:"do"`                // what to do about it, a sentence
	Command string `json:"command,omitempty"` // the command that helps
}

// late is how long an entry may wait before it is worth a word.
const late = time.Minute

// otherKey is what to do about a key of the pipeline that has a wrong type.
const otherKey = "Another program made the key. Give that program another key or database, and rename or delete this one: the stages go on by themselves."

// Problems lists what is wrong: urgent problems first, then in the order of the flow. The commands
// begin with tool, see [Tool].
func Problems(s inspect.Seen, tool string) []Problem {
	var out []Problem
	if away := slices.DeleteFunc(slices.Clone(s.Shards), func(x inspect.ShardStatus) bool { return x.Away == "" }); len(away) > 0 {
		out = append(out, Problem{
			Urgent: true, Text: fmt.Sprintf("%s of %d away, and not counted here: %s", Plural(len(away), "shard", "shards"), len(s.Shards), away[0].Away),
			Do: "Their events wait. A replica of their master takes over; without one, start the master again. `redis-cli --cluster check` says more.",
		})
	}
	out = append(out, ofWriters(s, tool)...)
	for _, c := range s.Channels {
		for _, wrong := range c.Wrong {
			out = append(out, Problem{
				Channel: c.Channel, Urgent: true, Text: wrong + ", so the stages of " + c.Channel + " wait",
				Do: otherKey,
			})
		}
		for _, g := range c.Groups {
			out = append(out, ofAway(s, c.Channel, g, tool)...)
		}
		for _, f := range c.Foreign {
			out = append(out, foreign(c.Channel, f, tool)...)
		}
	}
	for _, r := range Rows(s) {
		out = append(out, ofState(s, r, tool)...)
		out = append(out, ofEvents(s, r, tool)...)
	}
	for _, c := range s.Channels {
		if alive := slices.ContainsFunc(c.Groups, func(g inspect.GroupStatus) bool { _, _, n := state(g); return n > 0 }); alive && !c.Adopted {
			out = append(out, Problem{
				Channel: c.Channel, Text: "no stage adopts bare PUBLISHes on " + c.Channel + ", so messages of other programs are not kept",
				Do: "After a start it takes a moment. Otherwise run a stage of the channel with ADOPT=on.",
			})
		}
	}
	urgent := func(p Problem) int { return map[bool]int{true: 0, false: 1}[p.Urgent] }
	slices.SortStableFunc(out, func(a, b Problem) int { return urgent(a) - urgent(b) })
	return out
}

// startOrClaim is what to do about a lasting consumer that is not running.
const startOrClaim = "Start it again, with its volume. Only if its journal is lost, %s: what it had begun may then be written twice."

// ofAway names lasting consumers that hold events and do not run, while others of their group do.
// On a Redis Cluster, ofWriters names them.
func ofAway(s inspect.Seen, channel string, g inspect.GroupStatus, tool string) (out []Problem) {
	if st, _, _ := state(g); st != Running || s.Shards != nil {
		return nil
	}
	for _, c := range g.Consumers {
		if c.State == "away" && c.Pending > 0 {
			out = append(out, Problem{
				Stage: g.Name, Channel: channel, Urgent: true,
				Text:    fmt.Sprintf("%s of %s is not running and holds %s", c.Name, g.Name, Plural(c.Pending, "event", "events")),
				Do:      fmt.Sprintf(startOrClaim, "claim its events"),
				Command: Command(tool, "claim", channel, g.Name, "--from", c.Name),
			})
		}
	}
	return out
}

// ofWriters are the problems that shards wait for their writer, or have none.
func ofWriters(s inspect.Seen, tool string) (out []Problem) {
	type whose struct{ channel, stage, writer string }
	shards, events, order := map[whose]int{}, map[whose]int{}, []whose{}
	divided := func(stage string) bool {
		return slices.ContainsFunc(s.Shards, func(x inspect.ShardStatus) bool { return x.Writer(stage) != "" })
	}
	for _, x := range s.Shards {
		for _, c := range x.Channels {
			for _, g := range c.Groups {
				i := slices.IndexFunc(g.Consumers, func(y inspect.ConsumerStatus) bool { return y.Name == g.Writer })
				if g.Writer == "" && !divided(g.Name) || i >= 0 && g.Consumers[i].State == "alive" {
					continue
				}
				w := whose{c.Channel, g.Name, g.Writer}
				if shards[w]++; shards[w] == 1 {
					order = append(order, w)
				}
				events[w] += g.Backlog
			}
		}
	}
	for _, w := range order {
		p := Problem{
			Stage: w.stage, Channel: w.channel, Urgent: true,
			Text:    fmt.Sprintf("%d of %d shards of %s belong to %s, which is not running", shards[w], len(s.Shards), w.stage, w.writer),
			Do:      fmt.Sprintf(startOrClaim, "free the shards"),
			Command: Command(tool, "claim", w.channel, w.stage, "--from", w.writer),
		}
		if w.writer == "" {
			p.Text = fmt.Sprintf("%d of %d shards of %s have no writer", shards[w], len(s.Shards), w.stage)
			p.Do, p.Command = "After a start it takes a moment. Otherwise run as many writers as EMAIL_WRITERS says.", ""
		}
		p.Text += "; " + Plural(events[w], "event waits there", "events wait there")
		out = append(out, p)
	}
	return out
}

// foreign is what to decide about a group of another program, and what it has lost.
func foreign(channel string, f inspect.Foreign, tool string) (out []Problem) {
	name := fmt.Sprintf("%s, a group of another program on %s,", f.Name, channel)
	if f.Policy == "" {
		out = append(out, Problem{
			Channel: channel, Text: fmt.Sprintf("%s has %s: they are kept for it, up to MAX_BACKLOG", name, Plural(f.Backlog, "entry to ack", "entries to ack")),
			Do:      "If its program must miss nothing, adopt the group; if nobody needs it, ignore or retire it.",
			Command: Command(tool, "group", "ignore", channel, f.Name),
		})
	}
	if f.Lost > 0 && f.Policy != "ignored" {
		out = append(out, Problem{
			Channel: channel, Text: fmt.Sprintf("%s was too far behind: it will never see %s at most", name, Plural(f.Lost, "event", "events")),
			Do: "Make it faster, or raise MAX_BACKLOG.",
		})
	}
	return out
}

// ofState is the problem that a stage does not run, or is behind.
func ofState(s inspect.Seen, r Row, tool string) []Problem {
	p := Problem{Stage: r.Stage, Channel: r.Channel, Text: r.Stage + " is " + r.State + ": " + r.Why}
	waits := ""
	if r.Backlog > 0 {
		waits = fmt.Sprintf("; %s, the oldest for %s", Plural(r.Backlog, "event waits", "events wait"), Ago(s.At, r.Oldest))
		p.Text += waits
	}
	switch {
	case r.State == NotRunning && r.Backlog > 0:
		p.Urgent, p.Do = !r.Optional, "Start it: its events are kept."
		p.Command = Command(tool, "group", "list", r.Channel)
	case r.State == NotRunning:
		p.Do = "Start it: its events are kept. If it is gone for good, retire its group."
		p.Command = Command(tool, "group", "retire", r.Channel, r.Stage)
	case strings.Contains(r.Why, "WRONGKEY"):
		p.Urgent, p.Do = true, otherKey
	case strings.Contains(r.Why, "OOM "):
		p.Urgent, p.Do = true, "Redis is full. Start or scale the stages that are behind, or raise maxmemory: it continues when there is room."
	case r.State != Running:
		p.Urgent, p.Do = r.State != Busy, map[string]string{
			Paused: "Fix what it depends on: it continues by itself.",
			HeldUp: "Look at the stage that reads this channel: it continues when there is room.",
			Busy:   "It continues by itself.",
		}[r.State]
	case !r.Oldest.IsZero() && s.At.Sub(r.Oldest) > late:
		p.Urgent, p.Text = !r.Optional, r.Stage+" is behind"+waits
		p.Do, p.Command = "If the backlog grows, add replicas; otherwise look at the oldest event.", Find(tool, r.OldestEvent)
	default:
		return nil
	}
	return []Problem{p}
}

// ofEvents are the problems with events of a stage: retries, dead letters, lost ones.
func ofEvents(s inspect.Seen, r Row, tool string) (out []Problem) {
	if r.Retrying.N > 0 {
		errs := reasons{}
		next := "" // unknown if the retry came after Redis was read
		for _, x := range s.Retries {
			if x.Group == r.Stage && x.Channel == r.Channel {
				errs.add(x.ID, x.Error)
				next = cmp.Or(next, x.ID)
			}
		}
		out = append(out, Problem{
			Stage: r.Stage, Channel: r.Channel,
			Text: fmt.Sprintf("%s of %s will be tried again%s", pluralCount(r.Retrying, "event", "events"), r.Stage, errs.of(r.Retrying)),
			Do:   "Fix the cause: each is tried again with growing pauses.", Command: Find(tool, next),
		})
	}
	if r.Dead.N > 0 {
		errs := reasons{}
		for _, x := range s.Dead {
			if x.Group == r.Stage && x.Channel == r.Channel {
				errs.add(x.ID, x.Error)
			}
		}
		out = append(out, Problem{
			Stage: r.Stage, Channel: r.Channel, Urgent: true,
			Text: fmt.Sprintf("%s set aside by %s%s", pluralCount(r.Dead, "event was", "events were"), r.Stage, errs.of(r.Dead)),
			Do:   "Fix the cause, then replay them.", Command: Command(tool, "dead", "list", r.Channel, "--group", r.Stage),
		})
	}
	if r.Lost > 0 {
		out = append(out, Problem{
			Stage: r.Stage, Channel: r.Channel, Text: fmt.Sprintf("%s is optional and was too far behind: it will never see %s", r.Stage, Plural(r.Lost, "event", "events")),
			Do: "Add replicas of it, or raise MAX_BACKLOG.",
		})
	}
	return out
}

// reasons counts events by their error.
type reasons map[string]int

// add adds an event's error. The event's own ID in it does not make it another reason.
func (r reasons) add(id, err string) {
	if id != "" {
		err = strings.ReplaceAll(strings.ReplaceAll(err, "event "+id+": ", ""), id, "…")
	}
	r[cmp.Or(err, "no error is known")]++
}

// of names the three commonest reasons of n events, each with its count if it is not all of them.
func (r reasons) of(n Count) string {
	texts := slices.SortedFunc(maps.Keys(r), func(a, b string) int { return cmp.Or(r[b]-r[a], strings.Compare(a, b)) })
	if len(texts) == 0 {
		return ""
	}
	if r[texts[0]] == n.N && !n.More {
		return ": " + texts[0]
	}
	const most = 3
	var parts []string
	for _, text := range texts[:min(len(texts), most)] {
		parts = append(parts, fmt.Sprintf("%d × %s", r[text], text))
	}
	if more := len(texts) - most; more > 0 {
		parts = append(parts, Plural(more, "other reason", "other reasons"))
	}
	return ": " + strings.Join(parts, "; ")
}

// Plural is "1 event" or "3 events".
func Plural(n int, one, many string) string { return pluralCount(Count{N: n}, one, many) }

func pluralCount(c Count, one, many string) string {
	if c.N == 1 && !c.More {
		return "1 " + one
	}
	return c.String() + " " + many
}

// Ago is how long before now t was, in its two largest units: "3d4h", "2m10s"; "-" for no time.
func Ago(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := max(0, now.Sub(t)).Truncate(time.Second)
	switch days := d / (24 * time.Hour); {
	case days > 0:
		return fmt.Sprintf("%dd%dh", days, (d%(24*time.Hour))/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, (d%time.Hour)/time.Minute)
	}
	return d.String()
}

// Rate is a rate as people read it: "0", "0.4/s", "1234/s"; "-" if it is not known.
func Rate(r *float64) string {
	switch {
	case r == nil:
		return "-"
	case *r == 0:
		return "0/s"
	case *r < 10:
		return fmt.Sprintf("%.1f/s", *r)
	}
	return fmt.Sprintf("%.0f/s", *r)
}

// Tool is how the command-line tool is called for the Redis of o. It names no credentials: where
// they are needed, or TLS is, whoever calls it has them in REDIS_URL.
func Tool(o *redis.Options, prefix string) string {
	name := "milepostctl"
	_, _, err := net.SplitHostPort(o.Addr)
	private := o.Password != "" || o.Username != "" || o.TLSConfig != nil || o.Network == "unix" || o.Dialer != nil || err != nil
	if !private && (o.Addr != "127.0.0.1:6379" || o.DB != 0) {
		name += " --redis redis://" + o.Addr
		if o.DB != 0 {
			name += fmt.Sprintf("/%d", o.DB)
		}
	}
	if prefix != "" {
		name += " --prefix '" + prefix + "'"
	}
	return name
}

func Find(tool, event string) string { return Command(tool, "find", event) }

// Replay is the command that gives a dead letter back to the stage that failed.
func Replay(tool string, d inspect.DeadLetter) string {
	return Command(tool, "dead", "replay", d.Channel, d.Entry, "--yes")
}

// Command is a command line that a shell takes for these words, whatever they hold: names and IDs
// may come from foreign programs. It is "" if one is empty or has something that cannot be printed.
func Command(tool string, words ...string) string {
	for _, w := range words {
		if w == "" || strings.ContainsFunc(w, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return ""
		}
		tool += " " + quoted(w)
	}
	return tool
}

// plain words need no quotes in a shell.
var plain = regexp.MustCompile(`^[A-Za-z0-9_.:@%+=,/-]+$`)

func quoted(word string) string {
	if plain.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
