// Package milepostctl is the command-line tool of a pipeline: it publishes, listens, looks at
// channels and groups, and handles dead letters. It needs only the pipeline's Redis.
package milepostctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/milepost/milepost/pkg/config"
	"github.com/milepost/milepost/pkg/event"
	"github.com/milepost/milepost/pkg/operate"
	"github.com/milepost/milepost/pkg/program"
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/inspect"
)

// Exit codes of the tool.
const (
	ExitOK       = 0
	ExitError    = 1 // it was tried and did not work
	ExitUsage    = 2 // the command line or a variable is wrong; nothing was tried
	ExitNotFound = 3 // what was named does not exist
	ExitAway     = 4 // Redis cannot be reached, or is not ready
	ExitFindings = 5 // doctor or status --check found a problem
)

// IO is the tool's surroundings.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	Terminal bool // In is a terminal: a person can answer
}

// Main runs the tool with the arguments after its name and returns its exit code.
func Main(ctx context.Context, args []string, world IO) int {
	t := &tool{IO: world}
	root := t.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return ExitError // interrupted; there is nothing to explain
	}
	fmt.Fprintf(world.Err, "milepostctl: %v\n", err)
	var variable *config.VariableError
	switch {
	case errors.As(err, new(*stage.ShardError)):
		fmt.Fprintln(world.Err, "Only the master of this shard is away. `milepostctl status --shards` shows the others, and `milepostctl doctor` the nodes.")
		return ExitAway
	case errors.Is(err, stage.ErrCluster):
		return ExitAway // it answered, and said why
	case errors.Is(err, stage.ErrUnavailable):
		fmt.Fprintf(world.Err, "Redis was expected at %s. Start it, or name another one with --redis or REDIS_URL; "+
			"`make run` has one at redis://127.0.0.1:6390.\n", t.where())
		return ExitAway
	case errors.Is(err, stage.ErrNotFound):
		return ExitNotFound
	case errors.As(err, new(problems)):
		return ExitFindings
	case errors.As(err, &variable), errors.As(err, new(usage)), !t.started:
		fmt.Fprintf(world.Err, "See `%s --help`.\n", cmd.CommandPath())
		return ExitUsage
	}
	return ExitError
}

// usage is an error about the command line.
type usage string

func (u usage) Error() string { return string(u) }

// problems is the end of a command that worked and found problems.
type problems string

func (p problems) Error() string { return string(p) }

// needs refuses another number of arguments than the named ones.
func needs(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usage(names[len(args)] + " is missing")
		}
		if len(args) > len(names) {
			return usage(fmt.Sprintf("unexpected argument %q", args[len(names)]))
		}
		return nil
	}
}

// parent makes cmd a command that only has others: it prints its help, and refuses other words.
func parent(cmd *cobra.Command) {
	cmd.SuggestionsMinimumDistance = 2
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return usage(fmt.Sprintf("unknown command %q for %q%s", args[0], cmd.CommandPath(), like(cmd, args[0])))
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
}

// like suggests commands below cmd that were perhaps meant; "" if there are none.
func like(cmd *cobra.Command, typed string) string {
	if names := cmd.SuggestionsFor(typed); len(names) > 0 {
		return "; did you mean " + strings.Join(names, " or ") + "?"
	}
	return ""
}

// notFound is the error of a name that is none of names. It suggests those that were perhaps meant.
func notFound(kind, typed string, names []string) error {
	known := cobra.Command{SuggestionsMinimumDistance: 2} // cobra compares names of commands
	for _, n := range names {
		known.AddCommand(&cobra.Command{Use: n, Run: func(*cobra.Command, []string) {}})
	}
	hint := like(&known, typed)
	if hint == "" && len(names) > 0 {
		hint = "; there are " + visible(strings.Join(names, ", "))
	}
	return fmt.Errorf("%s %s: %w%s", kind, visible(typed), stage.ErrNotFound, hint)
}

type tool struct {
	IO
	redisURL, prefix, mongoURL string // flags; see getenv

	output  string
	timeout time.Duration

	env     config.Redis
	options *redis.Options // env's
	started bool           // the command line was understood
}

func (t *tool) root() *cobra.Command {
	root := &cobra.Command{
		Use:     "milepostctl",
		Short:   "Publish, listen and look after a pipeline on Redis channels",
		Version: program.FullVersion(),
		Long: `milepostctl publishes events, listens to channels, shows how far each stage is, finds an event, and
lists, replays or drops dead letters. It talks to the pipeline's Redis; doctor and find also ask
MongoDB, if MONGO_URL or MONGO_HOST is set.

On call: status says what is wrong, find says where an event is and why, dead replay brings it back,
doctor checks settings.

Redis is found by --redis, else REDIS_URL, else REDIS_HOST and REDIS_PORT, else 127.0.0.1:6379. The
pipeline is the one whose names begin with --prefix or KEY_PREFIX.

Exit status: 0 done; 1 tried, and it did not work; 2 wrong command line or variable; 3 no such event,
dead letter, group or channel; 4 Redis cannot be reached; 5 doctor or status --check found a problem.`,
		Example: `  milepostctl --redis redis://127.0.0.1:6390 status
  milepostctl publish raw_input '{"email":"ada@example.com","lat":"40.7128","long":"-74.0060"}'
  milepostctl listen
  milepostctl find 01a1fcf2-c249-787c-93ac-7be164ea854e
  milepostctl dead list --output json | jq .error
  source <(milepostctl completion bash)`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: t.prepare,
	}
	root.SetIn(t.In)
	root.SetOut(t.Out)
	root.SetErr(t.Err)
	f := root.PersistentFlags()
	f.StringVar(&t.redisURL, "redis", "", "URL of the pipeline's Redis, such as redis://127.0.0.1:6390 (default: REDIS_URL)")
	f.StringVar(&t.prefix, "prefix", "", "what stands before the pipeline's keys and channels (default: KEY_PREFIX)")
	f.StringVarP(&t.output, "output", "o", "text", "text for people, json for programs (one object a line)")
	f.DurationVar(&t.timeout, "timeout", 10*time.Second, "how long Redis may take to answer")
	root.AddCommand(t.publish(), t.listen(), t.dead(), t.status(), t.find(), t.doctor(), t.group(), t.claim(), t.check(), t.load())
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp) // arguments are no files
	root.InitDefaultCompletionCmd()
	parent(root)
	for _, c := range root.Commands() {
		if c.HasSubCommands() {
			parent(c)
		}
	}
	return root
}

// prepare reads what all commands need, before any of them starts.
func (t *tool) prepare(*cobra.Command, []string) error {
	if t.output != "text" && t.output != "json" {
		return fmt.Errorf("--output: %q is not one of text, json", t.output)
	}
	if t.timeout <= 0 {
		return fmt.Errorf("--timeout must be more than 0, such as 10s; it is %s", t.timeout)
	}
	if err := t.settings(&t.env); err != nil {
		return err
	}
	t.options, t.prefix = t.env.Options(), string(t.env.KeyPrefix)
	if err := stage.CheckPrefix(t.prefix, t.options.DB); err != nil {
		return err
	}
	t.started = true
	return nil
}

// flag is the value of the flag that stands for a variable; "" if there is none.
func (t *tool) flag(variable string) string {
	return map[string]string{"REDIS_URL": t.redisURL, "KEY_PREFIX": t.prefix, "MONGO_URL": t.mongoURL}[variable]
}

// getenv is the environment, less what flags stand for.
func (t *tool) getenv(name string) string {
	variable, file := strings.CutSuffix(name, "_FILE")
	switch value := t.flag(variable); {
	case value != "" && file:
		return ""
	case value != "":
		return value
	case name == "REDIS_PORT" && t.getenv("REDIS_URL")+t.getenv("REDIS_URL_FILE") != "":
		return "" // in Kubernetes, a Service that is called redis sets it to a URL
	}
	return t.Getenv(name)
}

// settings reads some. An error about a variable names the flag that set it.
func (t *tool) settings(into any) error {
	err := config.Load(t.getenv, into)
	var v *config.VariableError
	if errors.As(err, &v) && t.flag(v.Name) != "" {
		v.Name = map[string]string{"REDIS_URL": "--redis", "KEY_PREFIX": "--prefix", "MONGO_URL": "--mongo"}[v.Name]
	}
	return err
}

// where is the Redis that is used, without credentials.
func (t *tool) where() string {
	text := fmt.Sprintf("%s, database %d", t.options.Addr, t.options.DB)
	if t.prefix != "" {
		text += ", prefix " + t.prefix
	}
	return text
}

// called is how the tool was called, to name further commands.
func (t *tool) called() string {
	if t.redisURL == "" {
		return operate.Tool(&redis.Options{Addr: "127.0.0.1:6379"}, t.prefix)
	}
	return operate.Tool(t.options, t.prefix)
}

type pipeline struct {
	*stage.Broker
	*inspect.Pipeline
	cluster bool
}

// open opens the pipeline for f and closes it. It returns f's errors as they are. Each call to
// Redis may take --timeout.
func (t *tool) open(ctx context.Context, f func(context.Context, pipeline) error) error {
	broker, err := stage.Open(stage.Options{Redis: t.options, Nodes: t.env.Nodes(), Prefix: t.prefix, Shards: -1, Timeout: t.timeout, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	links, what := broker.Shards(ctx)
	if errors.Is(what, stage.ErrCluster) {
		return errors.Join(what, broker.Close())
	}
	err = f(ctx, pipeline{broker, inspect.New(broker), len(links) > 0 && links[0].Name != ""})
	if what != nil && err != nil && strings.Contains(err.Error(), "unknown command") {
		err = what // says what answers there in place of a Redis
	}
	return errors.Join(err, broker.Close())
}

// channel refuses a channel that neither the application nor a stage or publisher names.
func (p pipeline) channel(ctx context.Context, names ...string) error {
	all, err := p.known(ctx)
	if err != nil {
		return err
	}
	for _, n := range names {
		if !slices.Contains(all, n) {
			return notFound("channel", n, all)
		}
	}
	return nil
}

// known are the channels of the application and those that a stage or publisher names. Of an error
// they are those of the application.
func (p pipeline) known(ctx context.Context) ([]string, error) {
	all := event.Channels()
	named, err := p.Channels(ctx)
	for _, c := range named {
		if !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	return all, err
}

// chosen are the named channels, which must exist, or all known ones if none is named.
func (p pipeline) chosen(ctx context.Context, names []string) ([]string, error) {
	if len(names) == 0 {
		return p.known(ctx)
	}
	return names, p.channel(ctx, names...)
}
