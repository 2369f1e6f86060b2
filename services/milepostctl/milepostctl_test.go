package milepostctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/program"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/stagetest"
	"github.com/milepost/milepost/services/internal/processtest"
)

// said is what a run of the tool came to.
type said struct {
	code     int
	out, err string
}

func (s said) String() string {
	return fmt.Sprintf("exit status %d\nstdout: %s\nstderr: %s", s.code, s.out, s.err)
}

// runIn runs the tool in a world of which a test says only what it is about.
func runIn(ctx context.Context, world IO, args ...string) said {
	var out, errs bytes.Buffer
	if world.In == nil {
		world.In = strings.NewReader("")
	}
	if world.Out == nil {
		world.Out = &out
	}
	if world.Err == nil {
		world.Err = &errs
	}
	return said{Main(ctx, args, world), out.String(), errs.String()}
}

// at is an environment that names a Redis; nil for none.
func at(o *redis.Options) func(string) string {
	return func(name string) string {
		if name == "REDIS_URL" && o != nil {
			return "redis://" + o.Addr
		}
		return ""
	}
}

// runTool runs the tool as a script would: nobody is there to answer, unless typed says what a
// person types.
func runTool(t *testing.T, o *redis.Options, typed string, args ...string) said {
	t.Helper()
	return runIn(t.Context(), IO{In: strings.NewReader(typed), Terminal: typed != "", Getenv: at(o)}, args...)
}

// piped runs the tool with a file as its input.
func piped(t *testing.T, o *redis.Options, file string, args ...string) said {
	t.Helper()
	return runIn(t.Context(), IO{In: strings.NewReader(file), Getenv: at(o)}, args...)
}

// with runs the tool with an environment.
func with(t *testing.T, env map[string]string, args ...string) said {
	t.Helper()
	return runIn(t.Context(), IO{Getenv: func(name string) string { return env[name] }}, args...)
}

// decoded reads an object from each line.
func decoded[T any](t *testing.T, text string) (all []T) {
	t.Helper()
	for line := range strings.Lines(text) {
		var v T
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		all = append(all, v)
	}
	return all
}

// deadLetters lists dead letters.
func deadLetters(t *testing.T, o *redis.Options, args ...string) []letter {
	t.Helper()
	return decoded[letter](t, must(t, o, append([]string{"dead", "list", "-o", "json"}, args...)...))
}

// must is runTool for what has to succeed.
func must(t *testing.T, o *redis.Options, args ...string) string {
	t.Helper()
	s := runTool(t, o, "", args...)
	if s.code != ExitOK {
		t.Fatalf("milepostctl %q: %s", args, s)
	}
	return s.out
}

// errRefused is why the stage of these tests fails.
var errRefused = errors.New("refused \x1b[31m")

// running starts a stage "distance" on raw_input that handles an event as work says, and returns a
// function that stops it.
func running(t *testing.T, o *redis.Options, work func(string) error) (stop func()) {
	t.Helper()
	return processtest.Stage(t, processtest.Broker(t, o), stage.Config{Name: "distance", In: event.RawInput}, stage.Each(
		func(_ context.Context, e stage.Event[string]) (stage.Nothing, error) {
			return stage.Nothing{}, work(e.Body)
		}))
}

const golden = `{"email":"ada@example.com","lat":"40.7128","long":"-74.0060"}`

func TestPublish(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		c := stagetest.Client(t, o)
		sub := c.Subscribe(t.Context(), event.RawInput)
		t.Cleanup(func() { sub.Close() })
		if _, err := sub.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		id := strings.TrimSpace(must(t, o, "publish", event.RawInput, golden))
		entries, err := c.XRange(t.Context(), event.RawInput, "-", "+").Result()
		if err != nil || len(entries) != 1 || entries[0].Values["payload"] != golden || entries[0].Values["id"] != id {
			t.Fatalf("stream after publish of event %s: %v, %v; want one entry with the payload", id, entries, err)
		}
		if m, err := sub.ReceiveMessage(t.Context()); err != nil || m.Payload != golden {
			t.Errorf("the channel had %v, %v; want the payload", m, err)
		}

		out := ""
		for range 2 {
			out += must(t, o, "publish", event.UserEmail, "ada@example.com", "--key", "k-1", "-o", "json")
		}
		answers := decoded[struct {
			ID     string
			Repeat bool
		}](t, out)
		if answers[0].ID != answers[1].ID || answers[0].Repeat || !answers[1].Repeat {
			t.Errorf("two publishes with one key: %+v; want one ID, the second a repeat", answers)
		}
		if s := runTool(t, o, "", "publish", event.UserEmail, "bob@example.com", "--key", "k-1"); s.code != ExitError || !strings.Contains(s.err, "another body") {
			t.Errorf("publish of another body with the same key: %s", s)
		}
	})
}

// TestPrefix: the tool looks at the pipeline whose prefix it is given, and says so.
func TestPrefix(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		c := stagetest.Client(t, o)
		must(t, o, "publish", event.UserEmail, "ada@example.com", "--prefix", "shop:")
		if n, m := c.XLen(t.Context(), "shop:user:email").Val(), c.Exists(t.Context(), event.UserEmail, "stages").Val(); n != 1 || m != 0 {
			t.Errorf("publish --prefix shop: left %d entries in shop:user:email and %d keys without it; want 1 and 0", n, m)
		}
		env := map[string]string{"REDIS_URL": "redis://" + o.Addr, "KEY_PREFIX": "shop:"}
		if s := with(t, env, "status", "--sample", "0"); s.code != ExitOK || !strings.HasPrefix(s.out, "prefix shop:\n") {
			t.Errorf("status with KEY_PREFIX=shop: %s", s)
		}
		env = map[string]string{"REDIS_URL": "redis://" + o.Addr + "/1"}
		if s := with(t, env, "status"); s.code != ExitUsage || !strings.Contains(s.err, "database 1 of Redis needs a key prefix") {
			t.Errorf("status of database 1 without a prefix: %s", s)
		}
	})
}

func TestPublishReadsInput(t *testing.T) {
	o := stagetest.Embedded(t)
	said := piped(t, o, "two\nlines\r\n", "publish", "elsewhere", "-", "--force")
	c := stagetest.Client(t, o)
	entries, err := c.XRange(t.Context(), "elsewhere", "-", "+").Result()
	if said.code != ExitOK || err != nil || len(entries) != 1 || entries[0].Values["payload"] != "two\nlines" {
		t.Errorf("publish - : %s; stream %v, %v; want the input less its last line break", said, entries, err)
	}
}

func TestDeadLetters(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		var mended sync.Map
		running(t, o, func(body string) error {
			if _, ok := mended.Load("now"); ok {
				return nil
			}
			return stage.Permanent(errRefused)
		})
		for range 3 {
			must(t, o, "publish", event.RawInput, golden)
		}
		last := strings.TrimSpace(must(t, o, "publish", event.RawInput, "\x1b[2J", "--force"))
		list := func(args ...string) []letter { return deadLetters(t, o, args...) }
		stagetest.Eventually(t, "all four are dead letters", func() bool { return len(list()) == 4 })

		all := list(event.RawInput, "--id", last)
		if len(all) != 1 || all[0].Group != "distance" || all[0].Text != "\x1b[2J" || !strings.Contains(all[0].Error, "refused") {
			t.Fatalf("dead list --id %s = %+v; want that one with its reason", last, all)
		}
		for _, tc := range []struct {
			args []string
			want int
		}{
			{[]string{"--group", "distance"}, 4},
			{[]string{"--group", "weather"}, 0},
			{[]string{"--error", "refused"}, 4},
			{[]string{"--error", "latitude"}, 0},
			{[]string{"--since", "1h"}, 4},
			{[]string{"--until", "1h"}, 0},
			{[]string{"--limit", "2"}, 2},
			{[]string{event.UserEmail}, 0},
		} {
			if got := list(tc.args...); len(got) != tc.want {
				t.Errorf("dead list %q: %d letters, want %d", tc.args, len(got), tc.want)
			}
		}
		for _, args := range [][]string{{"dead", "list"}, {"dead", "show", event.RawInput, all[0].Entry}} {
			if text := must(t, o, args...); strings.Contains(text, "\x1b") || !strings.Contains(text, `\x1b[2J`) {
				t.Errorf("%q lets an escape sequence through, or hides it: %q", args, text)
			}
		}

		deadRefusals(t, o)
		if n := len(list()); n != 4 {
			t.Fatalf("%d dead letters are left after refusals, want 4", n)
		}

		if s := runTool(t, o, "y\n", "dead", "drop", event.RawInput, all[0].Entry); s.code != ExitOK || s.out != "dropped 1 dead letter\n" {
			t.Errorf("dead drop, confirmed: %s", s)
		}
		mended.Store("now", true)
		if out := must(t, o, "dead", "replay", event.RawInput, "--group", "distance", "--yes", "-o", "json"); !strings.Contains(out, `"replayed":3`) {
			t.Errorf("dead replay: %s; want 3 replayed", out)
		}
		stagetest.Eventually(t, "the stage has settled what was replayed", func() bool {
			s := decoded[struct{ Stages []struct{ Backlog int } }](t, must(t, o, "status", event.RawInput, "--sample", "0", "-o", "json"))[0]
			return len(s.Stages) == 1 && s.Stages[0].Backlog == 0
		})
		if out := must(t, o, "dead", "list"); out != "no dead letters in any channel\n" {
			t.Errorf("dead list at the end: %q", out)
		}
	})
}

// deadRefusals tries what must not change four dead letters.
func deadRefusals(t *testing.T, o *redis.Options) {
	t.Helper()
	for name, tc := range map[string]struct {
		typed string
		args  []string
		code  int
		says  string
	}{
		"nobody to ask":     {"", []string{"drop", event.RawInput, "--all"}, ExitError, "--yes"},
		"said no":           {"n\n", []string{"drop", event.RawInput, "--all"}, ExitError, "Drop 4 dead letters of raw_input? [y/N]"},
		"hung up":           {"\x00", []string{"drop", event.RawInput, "--all"}, ExitError, "nothing was done"},
		"which":             {"", []string{"replay", event.RawInput}, ExitUsage, "which?"},
		"all and a filter":  {"", []string{"drop", event.RawInput, "--all", "--since", "1h"}, ExitUsage, "contradict"},
		"entry and filter":  {"", []string{"drop", event.RawInput, "1-1", "--group", "x"}, ExitUsage, "not both"},
		"no such entry":     {"", []string{"drop", event.RawInput, "1-1", "--yes"}, ExitNotFound, "not found"},
		"not an entry":      {"", []string{"show", event.RawInput, "first"}, ExitUsage, "not an entry ID"},
		"show what is gone": {"", []string{"show", event.RawInput, "1-1"}, ExitNotFound, "1-1 of raw_input"},
		"nothing matches":   {"", []string{"drop", event.RawInput, "--error", "latitude", "--yes"}, ExitNotFound, "no dead letter"},
	} {
		s := runTool(t, o, tc.typed, append([]string{"dead"}, tc.args...)...)
		if s.code != tc.code || !strings.Contains(s.err, tc.says) || strings.Count(s.err, "Drop 4 ") > 1 { // asked once
			t.Errorf("%s: dead %q: %s; want exit status %d and %q", name, tc.args, s, tc.code, tc.says)
		}
	}
}

func TestGroups(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		stop := running(t, o, func(string) error { return nil })
		if out := must(t, o, "group", "list"); !strings.Contains(out, "distance") || !strings.Contains(out, "alive, 0 pending") {
			t.Errorf("group list of a running stage:\n%s", out)
		}
		if s := runTool(t, o, "", "group", "retire", event.RawInput, "distance", "--yes"); s.code != ExitError || !strings.Contains(s.err, "alive") {
			t.Errorf("retire of a group that is at work: %s", s)
		}
		stop()
		for range 5 {
			must(t, o, "publish", event.RawInput, golden)
		}
		if out := must(t, o, "group", "list", event.RawInput); !strings.Contains(out, "no process runs it") {
			t.Errorf("group list of a stopped stage:\n%s", out)
		}
		if out := must(t, o, "group", "skip", event.RawInput, "distance", "--yes"); out != "group distance of raw_input skipped 5 entries it had not settled\n" {
			t.Errorf("group skip: %q", out)
		}
		for _, args := range [][]string{{"group", "skip", event.RawInput, "distanze"}, {"group", "retire", event.RawInput, "distanze"}, {"claim", event.RawInput, "distanze", "--from", "x"}} {
			if s := runTool(t, o, "y\n", args...); s.code != ExitNotFound || !strings.Contains(s.err, "milepostctl: group distanze: not found; did you mean distance?") {
				t.Errorf("%q, an unknown group: %s", args, s)
			}
		}
		if s := runTool(t, o, "", "claim", event.RawInput, "distance", "--from", "nobody", "--yes"); s.code != ExitNotFound {
			t.Errorf("claim from an unknown consumer: %s", s)
		}
		c := stagetest.Client(t, o)
		stagetest.OK(t, c.XGroupCreate(t.Context(), event.RawInput, "audit", "$").Err())
		for _, x := range []struct{ verb, policy, says string }{
			{"adopt", "required", "entries of raw_input are kept until group audit has acked them\n"},
			{"ignore", "ignored", "nothing of raw_input is kept for group audit\n"},
		} {
			if out := must(t, o, "group", x.verb, event.RawInput, "audit", "--yes"); out != x.says {
				t.Errorf("group %s: %q, want %q", x.verb, out, x.says)
			}
			if out := must(t, o, "group", "list", event.RawInput); !strings.Contains(out, x.policy) {
				t.Errorf("group list after %s: %q", x.verb, out)
			}
			if s := runTool(t, o, "", "group", x.verb, event.RawInput, "distance", "--yes"); s.code != ExitError || !strings.Contains(s.err, "a stage's") {
				t.Errorf("group %s of a stage's group: %s", x.verb, s)
			}
		}
		must(t, o, "group", "retire", event.RawInput, "audit", "--yes")
		if s := runTool(t, o, "yes\n", "group", "retire", event.RawInput, "distance"); s.code != ExitOK {
			t.Errorf("retire of a group that nobody runs: %s", s)
		}
		if out := must(t, o, "group", "list", event.RawInput, "-o", "json"); out != "" {
			t.Errorf("group list after retire: %q, want nothing", out)
		}
	})
}

func TestListen(t *testing.T) {
	stagetest.Both(t, func(t *testing.T, o *redis.Options) {
		for _, tc := range []struct{ output, want string }{
			{"text", "user:email  ada@example.com\nuser:email  \"\\x1b[2J\"\n"},
			{"json", `"channel":"user:email","payload":"ada@example.com"}` + "\n" + `"channel":"user:email","payload":"\u001b[2J"}` + "\n"},
		} {
			heard := make(chan said, 1)
			ready := &signalWriter{on: "listening on user:email\n", c: make(chan struct{})}
			go func() {
				heard <- runIn(t.Context(), IO{Err: ready, Getenv: at(o)}, "listen", "user:email", "-n", "2", "-o", tc.output)
			}()
			<-ready.c
			must(t, o, "publish", event.UserEmail, "ada@example.com")
			must(t, o, "publish", event.UserEmail, "\x1b[2J", "--force")
			s := <-heard
			var got strings.Builder
			for line := range strings.Lines(s.out) { // less the time
				_, rest, _ := strings.Cut(line, map[string]string{"text": "  ", "json": ","}[tc.output])
				got.WriteString(rest)
			}
			if s.code != ExitOK || got.String() != tc.want {
				t.Errorf("listen -o %s: %s\nless the times: %q, want %q", tc.output, s, got.String(), tc.want)
			}
		}
	})
}

// signalWriter closes c once what was written contains on.
type signalWriter struct {
	mu sync.Mutex
	bytes.Buffer
	on   string
	c    chan struct{}
	done bool
}

func (w *signalWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.Buffer.Write(p)
	if !w.done && strings.Contains(w.Buffer.String(), w.on) {
		w.done = true
		close(w.c)
	}
	return n, err
}

func TestRedisAway(t *testing.T) {
	away := &redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", stagetest.FreePort(t))}
	for _, args := range [][]string{
		{"status"}, {"find", "01a1fcf2-c249-787c-93ac-7be164ea854e"}, {"doctor"}, {"listen"}, {"check"}, {"dead", "list"}, {"dead", "drop", "raw_input", "1-1", "-y"}, {"publish", "user:email", "ada@example.com"},
		{"group", "skip", "raw_input", "distance", "-y"}, {"claim", "user:email", "email", "--from", "x", "-y"},
	} {
		s := runTool(t, away, "", args...)
		if s.code != ExitAway || !strings.Contains(s.err, away.Addr) || !strings.Contains(s.err, "--redis") {
			t.Errorf("milepostctl %q without Redis: %s; want exit status %d, the address and the way out", args, s, ExitAway)
		}
	}
}

func TestWrongUsage(t *testing.T) {
	for _, tc := range []struct {
		args []string
		says string
	}{
		{[]string{"frobnicate"}, `unknown command "frobnicate"`},
		{[]string{"stauts"}, "did you mean status?"},
		{[]string{"dead", "replai"}, "did you mean replay?"},
		{[]string{"completion", "tcsh"}, `unknown command "tcsh"`},
		{[]string{"publish", "raw_input", "{}", "--id", "nope"}, `--id: "nope" is not a UUID`},
		{[]string{"dead", "frobnicate"}, `unknown command "frobnicate"`},
		{[]string{"--frobnicate"}, "unknown flag"},
		{[]string{"publish"}, "CHANNEL is missing"},
		{[]string{"publish", "raw_input"}, "PAYLOAD is missing"},
		{[]string{"publish", "raw_input", "{}", "more"}, `unexpected argument "more"`},
		{[]string{"dead", "drop"}, "CHANNEL is missing"},
		{[]string{"dead", "list", "--limit", "-1"}, "--limit"},
		{[]string{"listen", "--count", "-1"}, "--count"},
		{[]string{"status", "-o", "yaml"}, `"yaml" is not one of text, json`},
		{[]string{"status", "--timeout", "0s"}, "--timeout"},
		{[]string{"status", "--sample", "-1s"}, "--sample"},
		{[]string{"find"}, "EVENT is missing"},
		{[]string{"find", "x", "--mongo", "http://u:geheim@h"}, `--mongo: "http://u:****@h" is not a MongoDB URL`},
		{[]string{"claim", "user:email", "email"}, "from"},
		{[]string{"--redis", "http://u:geheim@h", "status"}, `--redis: "http://u:****@h" is not a Redis URL`},
	} {
		s := runTool(t, nil, "", tc.args...)
		if s.code != ExitUsage || !strings.Contains(s.err, tc.says) || !strings.Contains(s.err, "--help`") {
			t.Errorf("milepostctl %q: %s; want exit status %d and %q", tc.args, s, ExitUsage, tc.says)
		}
		if strings.Contains(s.err, "geheim") {
			t.Errorf("milepostctl %q shows the password: %s", tc.args, s)
		}
	}
	for channel, body := range map[string]string{
		event.RawInput: `{"email":"ada@example.com","lat":"91","long":"0"}`, event.CalculatedDistance: `{}`, event.UserEmail: "a\r\nb",
	} {
		s := runTool(t, nil, "", "publish", channel, body)
		if s.code != ExitError || !strings.Contains(s.err, "--force") {
			t.Errorf("publish of %q on %s: %s; want a refusal that names --force", body, channel, s)
		}
	}
}

// Each command explains itself with an example that the tool understands.
func TestHelp(t *testing.T) {
	root := (&tool{IO: IO{Getenv: func(string) string { return "" }}}).root()
	commands := root.Commands()
	for len(commands) > 0 {
		c := commands[0]
		commands = append(commands[1:], c.Commands()...)
		if c.Hidden { // for the tool itself
			continue
		}
		if cobras := strings.Contains(c.CommandPath(), "completion"); c.Short == "" || c.Example == "" && !cobras {
			t.Errorf("%s has no summary or no example", c.CommandPath())
		}
		for line := range strings.Lines(c.Example) {
			words := strings.Fields(line)
			found, _, err := root.Find(words[1:])
			if words[0] != "milepostctl" || err != nil || found != c && found.Parent() != c {
				t.Errorf("example of %s: %q is another command's (%v)", c.CommandPath(), line, err)
			}
		}
	}
	if out := must(t, nil, "completion", "bash"); !strings.Contains(out, "__start_milepostctl") {
		t.Error("completion bash writes no script")
	}
	if s := runTool(t, nil, "", "--help"); s.code != ExitOK || !strings.Contains(s.out, "Exit status:") {
		t.Errorf("--help: %s", s)
	}
}

func TestVersion(t *testing.T) {
	if s := runTool(t, nil, "", "--version"); s.code != ExitOK || s.out != "milepostctl version "+program.FullVersion()+"\n" {
		t.Errorf("--version: %s", s)
	}
}

// REDIS_URL is used although a Service called redis has set REDIS_PORT.
func TestForeignRedisPort(t *testing.T) {
	o := stagetest.Embedded(t)
	env := map[string]string{"REDIS_URL": "redis://" + o.Addr, "REDIS_PORT": "tcp://10.0.0.1:6379"}
	if s := with(t, env, "status", "--sample", "0"); s.code != ExitOK {
		t.Errorf("status with REDIS_URL and a foreign REDIS_PORT: %s", s)
	}
	delete(env, "REDIS_URL")
	if s := with(t, env, "status"); s.code != ExitUsage || !strings.Contains(s.err, "REDIS_PORT") {
		t.Errorf("status with a foreign REDIS_PORT alone: %s", s)
	}
}

// A mistyped channel does not look like an empty one.
func TestUnknownChannel(t *testing.T) {
	o := stagetest.Embedded(t)
	for _, args := range [][]string{
		{"dead", "list", "raw_inptu"}, {"group", "list", "raw_inptu"}, {"listen", "raw_inptu", "-n", "1"}, {"publish", "raw_inptu", "x"},
		{"status", "raw_inptu"}, {"dead", "drop", "raw_inptu", "--all", "-y"}, {"dead", "replay", "raw_inptu", "1-1", "-y"}, {"dead", "show", "raw_inptu", "1-1"},
		{"group", "skip", "raw_inptu", "distance", "-y"}, {"group", "retire", "raw_inptu", "distance", "-y"}, {"claim", "raw_inptu", "distance", "--from", "x", "-y"},
	} {
		if s := runTool(t, o, "", args...); s.code != ExitNotFound || !strings.Contains(s.err, "channel raw_inptu: not found; did you mean raw_input?") || s.out != "" {
			t.Errorf("milepostctl %q: %s; want exit status %d and a suggestion", args, s, ExitNotFound)
		}
	}
	if keys, err := redis.NewClient(o).Keys(t.Context(), "*").Result(); err != nil || len(keys) > 0 {
		t.Errorf("keys after commands about an unknown channel: %q, %v", keys, err)
	}
}
